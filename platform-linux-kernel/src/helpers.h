/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* helpers.c, as Rust sees it. */
#ifndef LITEBOX_HELPERS_H
#define LITEBOX_HELPERS_H
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/sched.h>
#include <linux/tty.h>

bool litebox_has_fsgsbase(void);
struct pt_regs *litebox_pt_regs(struct task_struct *task);
struct fpu *litebox_task_fpu(struct task_struct *task);
void litebox_tracepoints_quiesce(void);
struct page *litebox_alloc_pages(gfp_t flags, unsigned int order);
void litebox_get_page(struct page *page);
void litebox_put_page(struct page *page);
bool litebox_tty_size(struct file *file, struct winsize *size);
int litebox_page_count(const struct page *page);
struct page *litebox_resident_page(struct address_space *mapping, unsigned long index);
void *litebox_page_address(const struct page *page);
bool litebox_pte_none(pte_t *pte);
void litebox_set_pte(pte_t *pte, const struct page *page, pgprot_t prot);
int litebox_dequeue_signal(unsigned long wanted, struct kernel_siginfo *info);
void litebox_end_thread(void);
void litebox_set_rseq(void __user *area, u32 len, u32 sig);
void litebox_resume_rseq(const struct rseq_data *data);
void litebox_barrier(void);
void litebox_barrier_core(void);
void litebox_barrier_rseq(void);
u32 litebox_processor(u32 *node);
void litebox_affinity(const struct task_struct *task, u64 *words, u32 bits);
bool litebox_set_affinity(struct task_struct *task, const u64 *words, u32 bits);
bool litebox_same_processors(const struct task_struct *one, const struct task_struct *other);
u32 litebox_protection_keys(void);
void litebox_set_protection_keys(u32 rights);

/* Times are nanoseconds. */
struct litebox_usage {
	u64 user;
	u64 system;
	u64 minor_faults;
	u64 major_faults;
	u64 voluntary;
	u64 involuntary;
};

void litebox_usage(struct task_struct *task, struct litebox_usage *used);
u8 litebox_activity(struct task_struct *task);
void litebox_free_pages(struct page *page, unsigned int order);
u64 litebox_physical(const struct page *page);
void litebox_user_tables(u64 *to);
unsigned int litebox_processors_end(void);
int litebox_watch_processors(int (*on)(unsigned int cpu), int (*off)(unsigned int cpu));
void litebox_forget_processors(int state);
void litebox_interrupt_processors(void);
bool litebox_take_work(void);
bool litebox_has_work(void);
void litebox_interrupts_off(void);
void litebox_interrupts_on(void);
void litebox_note_guest(void);
bool litebox_peek(u8 *to, unsigned long from, unsigned long len);
bool litebox_is_named(struct dentry *dentry, const struct dentry *dir, const char *name, u32 len, u32 *seq);
bool litebox_is_named_still(const struct dentry *dentry, u32 seq);
unsigned long litebox_copy_from_user(void *to, const void __user *from, unsigned long len);
bool litebox_xsave(void __user *image, size_t bytes, u64 features);
bool litebox_xrstor(const void __user *image, size_t bytes, u64 features);
bool litebox_xrstor_initial(u64 features);
#endif
