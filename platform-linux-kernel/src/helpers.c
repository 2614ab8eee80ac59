// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Inline functions and macros of the kernel that Rust cannot reach. One line of work each; the reason stands above it.
 * Anything that is an exported function, or plain arithmetic on exported data, is done in Rust.
 */
#include <linux/cpuhotplug.h>
#include <linux/cpumask.h>
#include <linux/dcache.h>
#include <linux/entry-virt.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/rseq.h>
#include <linux/sched/clock.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <linux/sync_core.h>
#include <linux/tracepoint.h>
#include <linux/tty.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/pkru.h>
#include <asm/smap.h>
#include "helpers.h"

/* A patched branch (asm goto), resolved against the running CPU. */
bool litebox_has_fsgsbase(void)
{
	return cpu_feature_enabled(X86_FEATURE_FSGSBASE);
}

/* A macro; the padding at the top of the stack depends on FRED. */
struct pt_regs *litebox_pt_regs(struct task_struct *task)
{
	return task_pt_regs(task);
}

/* A macro or an unexported function, by configuration; the area follows the task's own structure. */
struct fpu *litebox_task_fpu(struct task_struct *task)
{
	return (struct fpu *)(task + 1);
}

/* Inline; which grace periods are waited for differs between kernel versions. */
void litebox_tracepoints_quiesce(void)
{
	tracepoint_synchronize_unregister();
}

/* An exported function or an inline one, by configuration. */
struct page *litebox_alloc_pages(gfp_t flags, unsigned int order)
{
	return alloc_pages(flags, order);
}

/* Inline atomics with a tracepoint. */
void litebox_get_page(struct page *page)
{
	get_page(page);
}

void litebox_put_page(struct page *page)
{
	put_page(page);
}

/* Inline tests of the page's flags, whose layout is the configuration's. */
struct page *litebox_resident_page(struct address_space *mapping, unsigned long index)
{
	struct page *page = pagecache_get_page(mapping, index, 0, 0);

	if (!page || (folio_test_uptodate(page_folio(page)) && !PageHWPoison(page)))
		return page;
	put_page(page);
	return NULL;
}

/*
 * The layouts are in linux/tty.h, which the kernel's own bindings lack. Terminals, and hardly anything else, keep a record in each open
 * file that points back to it; false if there is none in @file.
 */
bool litebox_tty_size(struct file *file, struct winsize *size)
{
	struct tty_file_private opened;

	if (copy_from_kernel_nofault(&opened, file->private_data, sizeof(opened)) || opened.file != file)
		return false;
	mutex_lock(&opened.tty->winsize_mutex);
	*size = opened.tty->winsize;
	mutex_unlock(&opened.tty->winsize_mutex);
	return true;
}

int litebox_page_count(const struct page *page)
{
	return page_count(page);
}

/* Arithmetic on a base that the kernel relocates, through a macro. */
void *litebox_page_address(const struct page *page)
{
	return page_address(page);
}

/* Page-table entries: paravirtualised, and their encoding knows of memory encryption. */
bool litebox_pte_none(pte_t *pte)
{
	return pte_none(ptep_get(pte));
}

void litebox_set_pte(pte_t *pte, const struct page *page, pgprot_t prot)
{
	set_pte(pte, pte_mkspecial(pfn_pte(page_to_pfn(page), prot)));
}

/* The lock's macro masks interrupts, or does not (PREEMPT_RT). Takes one pending signal of @wanted from current's queues. */
int litebox_dequeue_signal(unsigned long wanted, struct kernel_siginfo *info)
{
	enum pid_type type;
	sigset_t others;
	int signr;

	siginitsetinv(&others, wanted);
	spin_lock_irq(&current->sighand->siglock);
	signr = dequeue_signal(&others, info, &type);
	spin_unlock_irq(&current->sighand->siglock);
	return signr;
}

/*
 * The lock again. Ends the current thread alone on its way to ring 3, as de_thread (fs/exec.c) ends others: get_signal takes a set
 * group_exec_task for an exec of another thread, and do_group_exit then spares the rest of the group.
 */
void litebox_end_thread(void)
{
	spin_lock_irq(&current->sighand->siglock);
	current->signal->group_exec_task = current;
	sigaddset(&current->pending.signal, SIGKILL);
	set_thread_flag(TIF_SIGPENDING);
	spin_unlock_irq(&current->sighand->siglock);
}

/*
 * Inline, and the lock masks interrupts, since a membarrier's reads the structure. Makes @area what rseq(2) makes of it for the current
 * task, or takes it away if null. The second version of the area is whatever is longer than the first.
 */
void litebox_set_rseq(void __user *area, u32 len, u32 sig)
{
	rseq_reset(current);
	if (!area)
		return;
	scoped_guard(irqsave) {
		current->rseq.usrptr = area;
		current->rseq.len = len;
		current->rseq.sig = sig;
		current->rseq.event.has_rseq = len > 32 ? 2 : 1;
		rseq_force_update();
	}
}

/* The same, as fork(2) and a switch between two tasks do: @data is what one had, with what its area was told last. */
void litebox_resume_rseq(const struct rseq_data *data)
{
	scoped_guard(irqsave) {
		current->rseq = *data;
		rseq_force_update();
	}
}

/*
 * Inline functions in interrupts of the processors that run the current memory: membarrier(2) of the kernel, whose own is not exported.
 * Whoever is scheduled in later passes a barrier in the scheduler. A processor that has another memory by now only loses time.
 */
static void barrier_here(void *unused)
{
	smp_mb();
}

static void barrier_core_here(void *unused)
{
	smp_mb();
	sync_core_before_usermode();
}

static void barrier_rseq_here(void *unused)
{
	smp_mb();
	if (rseq_v2(current))
		rseq_sched_switch_event(current);
	else
		rseq_force_update();
}

static void barrier_elsewhere(smp_call_func_t call)
{
	smp_mb();
	preempt_disable();
	smp_call_function_many(mm_cpumask(current->mm), call, NULL, true);
	preempt_enable();
	smp_mb();
}

void litebox_barrier(void)
{
	barrier_elsewhere(barrier_here);
}

void litebox_barrier_core(void)
{
	/* The scheduler asks for it when it brings a thread of this memory in. */
	atomic_or(MEMBARRIER_STATE_PRIVATE_EXPEDITED_SYNC_CORE, &current->mm->membarrier_state);
	barrier_elsewhere(barrier_core_here);
	preempt_disable();
	barrier_core_here(NULL);
	preempt_enable();
}

void litebox_barrier_rseq(void)
{
	barrier_elsewhere(barrier_rseq_here);
}

/* Words of each processor's own. */
u32 litebox_processor(u32 *node)
{
	int cpu = raw_smp_processor_id();

	*node = cpu_to_node(cpu);
	return cpu;
}

/* Macros over sets whose size is the kernel's. @words has @bits bits. */
void litebox_affinity(const struct task_struct *task, u64 *words, u32 bits)
{
	unsigned int cpu;

	if (!task)
		return;
	for_each_cpu_and(cpu, task->cpus_ptr, cpu_online_mask)
		if (cpu < bits)
			words[cpu / 64] |= BIT_ULL(cpu % 64);
}

/* The same. False if @task cannot be bound to any of the processors. */
bool litebox_set_affinity(struct task_struct *task, const u64 *words, u32 bits)
{
	cpumask_var_t allowed;
	unsigned int cpu;
	bool bound;

	if (!task || !zalloc_cpumask_var(&allowed, GFP_KERNEL))
		return false;
	for_each_online_cpu(cpu)
		if (cpu < bits && words[cpu / 64] & BIT_ULL(cpu % 64))
			cpumask_set_cpu(cpu, allowed);
	bound = set_cpus_allowed_ptr(task, allowed) == 0;
	free_cpumask_var(allowed);
	return bound;
}

/* The same. Whether both may run on the same processors. */
bool litebox_same_processors(const struct task_struct *one, const struct task_struct *other)
{
	return cpumask_equal(one->cpus_ptr, other->cpus_ptr);
}

/* Inline, over a patched branch. The register of the running task; the scheduler keeps it. */
u32 litebox_protection_keys(void)
{
	return read_pkru();
}

void litebox_set_protection_keys(u32 rights)
{
	write_pkru(rights);
}

/*
 * Inline functions, and words that others write. The scheduler's count is as old as its last tick or switch; what has passed since is
 * added for a task that runs, a tick at most. (Without it a clock of processor time would stand still between two ticks.)
 */
static u64 since_last_count(const struct task_struct *task)
{
	u64 from = READ_ONCE(task->se.exec_start);
	u64 now = sched_clock_cpu(task_cpu(task));

	/* Of the same run only: on_cpu is read after the clock. */
	if (!READ_ONCE(task->on_cpu) || from != READ_ONCE(task->se.exec_start) || now < from)
		return 0;
	return min_t(u64, now - from, TICK_NSEC);
}

u8 litebox_activity(struct task_struct *task)
{
	return task ? task_state_to_char(task) : 'S';
}

void litebox_usage(struct task_struct *task, struct litebox_usage *used)
{
	if (!task)
		return;
	task_cputime_adjusted(task, &used->user, &used->system);
	used->user += since_last_count(task);
	used->minor_faults = task->min_flt;
	used->major_faults = task->maj_flt;
	used->voluntary = task->nvcsw;
	used->involuntary = task->nivcsw;
}

/*
 * A lock's and a sequence's macros. Whether @dentry has this name in @dir, and its file system does not want to be asked about that each
 * time; @seq is then what it counts each of its renamings and removals with (fs/dcache.c, __d_move and __d_drop).
 */
bool litebox_is_named(struct dentry *dentry, const struct dentry *dir, const char *name, u32 len, u32 *seq)
{
	bool is_named;

	spin_lock(&dentry->d_lock);
	is_named = !d_unhashed(dentry) && !(dentry->d_flags & DCACHE_OP_REVALIDATE) && dentry->d_parent == dir &&
		   dentry->d_name.len == len && !memcmp(dentry->d_name.name, name, len);
	*seq = read_seqcount_begin(&dentry->d_seq);
	spin_unlock(&dentry->d_lock);
	return is_named;
}

bool litebox_is_named_still(const struct dentry *dentry, u32 seq)
{
	return !read_seqcount_retry(&dentry->d_seq, seq);
}

/* Inline. Gives the bytes that were not copied; unlike the exported function, it leaves their places as they were. */
unsigned long litebox_copy_from_user(void *to, const void __user *from, unsigned long len)
{
	if (!access_ok(from, len))
		return len;
	barrier_nospec();
	return __copy_from_user_inatomic(to, from, len);
}

/*
 * Instructions that may fault, between macros that let the kernel reach user memory; the kernel's own are in its private xstate.h. What
 * faults, for whatever reason, ends with the trap's number, and changed no more than a part of what it was to change.
 */
#define XSTATE(insn, image, features)								\
({												\
	int trap;										\
												\
	asm volatile("1: " insn " (%[at])\n\t"							\
		     "xor %%eax, %%eax\n"							\
		     "2:\n"									\
		     _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_FAULT_MCE_SAFE)				\
		     : "=a" (trap)								\
		     : [at] "r" (image), "a" ((u32)(features)), "d" ((u32)((features) >> 32))	\
		     : "memory");								\
	trap;											\
})

/* As XSTATE on user memory, if the current task's registers are in the processor: false if not, or for a fault, which is not resolved. */
#define XSTATE_USER(insn, image, features)							\
({												\
	bool done = false;									\
												\
	fpregs_lock();										\
	if (!test_thread_flag(TIF_NEED_FPU_LOAD)) {						\
		pagefault_disable();								\
		stac();										\
		done = XSTATE(insn, image, features) == 0;					\
		clac();										\
		pagefault_enable();								\
	}											\
	fpregs_unlock();									\
	done;											\
})

/* Writes the current registers to @image, whose header says, as Linux's frames do, that it has the x87's and the SSE's. */
bool litebox_xsave(void __user *image, size_t bytes, u64 features)
{
	struct xregs_state __user *state = image;
	u64 present;

	return access_ok(image, bytes) && !clear_user(&state->header, sizeof(state->header)) &&
	       XSTATE_USER("xsave64", image, features) && !get_user(present, &state->header.xfeatures) &&
	       !put_user(present | XFEATURE_MASK_FPSSE, &state->header.xfeatures);
}

/* Loads the current registers from @image; what it lacks of @features gets its initial value. If that fails they hold anything. */
bool litebox_xrstor(const void __user *image, size_t bytes, u64 features)
{
	return access_ok(image, bytes) && XSTATE_USER("xrstor64", image, features);
}

/* Gives the current registers of @features their initial value, if they are in the processor. */
bool litebox_xrstor_initial(u64 features)
{
	static const struct {
		struct fxregs_state legacy;
		struct xstate_header header;
	} __aligned(64) initial = { .legacy = { .cwd = 0x37f, .mxcsr = MXCSR_DEFAULT } };
	bool done = false;

	fpregs_lock();
	if (!test_thread_flag(TIF_NEED_FPU_LOAD))
		done = XSTATE("xrstor64", &initial, features) == 0;
	fpregs_unlock();
	return done;
}

/* An inline function and macros, by configuration. */
void litebox_free_pages(struct page *page, unsigned int order)
{
	__free_pages(page, order);
}

u64 litebox_physical(const struct page *page)
{
	return __sme_set(page_to_phys(page));
}

/*
 * Inline walks, whose first level is folded or not as the kernel was booted. Copies what a four-level top table of the current memory's
 * user half has. The kernel's copy of an entry may forbid execution, to find a missing switch of tables; a guest's does not.
 */
void litebox_user_tables(u64 *to)
{
	pgd_t *top = pgd_offset(current->mm, 0);
	const u64 *from = (const u64 *)p4d_offset(top, 0);
	unsigned int i;

	for (i = 0; i < PTRS_PER_PGD / 2; i++)
		to[i] = pgtable_l5_enabled() && pgd_none(*top) ? 0 : READ_ONCE(from[i]) & ~_PAGE_NX;
}

/* A variable or a constant, by configuration. */
unsigned int litebox_processors_end(void)
{
	return nr_cpu_ids;
}

/* Inline. Calls @on on every processor, now and when it comes, and @off when it goes and in the end. */
int litebox_watch_processors(int (*on)(unsigned int cpu), int (*off)(unsigned int cpu))
{
	return cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "litebox:online", on, off);
}

void litebox_forget_processors(int state)
{
	cpuhp_remove_state(state);
}

static void nothing(void *unused)
{
}

/* Takes a function in C, which is the kernel's to call. All others have been interrupted when it returns. */
void litebox_interrupt_processors(void)
{
	smp_call_function(nothing, NULL, 1);
}

/*
 * Inline tests of the current task's flags. A kick's flag would end the work, as a signal does; what it announces is as well done as what
 * is to be done at a resume. False if the host's exit path has to see to it.
 */
bool litebox_take_work(void)
{
	if (test_thread_flag(TIF_NOTIFY_SIGNAL)) {
		clear_notify_signal();
		set_thread_flag(TIF_NOTIFY_RESUME);
	}
	return xfer_to_guest_mode_handle_work() == 0;
}

bool litebox_has_work(void)
{
	return xfer_to_guest_mode_work_pending();
}

/* Macros that tell lockdep and the tracers, by configuration. */
void litebox_interrupts_off(void)
{
	local_irq_disable();
}

void litebox_interrupts_on(void)
{
	local_irq_enable();
}

/* Inline. */
void litebox_note_guest(void)
{
	rcu_virt_note_context_switch();
}

/* A macro adds the context. For where nothing may sleep; false if a byte cannot be read without. */
bool litebox_peek(u8 *to, unsigned long from, unsigned long len)
{
	return copy_from_user_nofault(to, (const void __user *)from, len) == 0;
}
