/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the kernel crate's own bindings lack; see bindings.params for the names that are taken from here. */
#include <linux/anon_inodes.h>
#include <linux/namei.h>
#include <linux/pvclock_gtod.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include <linux/signal.h>
#include <linux/syscore_ops.h>
#include <linux/syscall_user_dispatch.h>
#include <linux/thread_info.h>
#include <linux/timekeeper_internal.h>
#include <asm/page.h>
#include <asm/unistd.h>
#include "helpers.h"
#include <linux/mman.h>

/* bindgen sees no macro that is not a plain number. Kbuild's script drops the prefix. */
const gfp_t LITEBOX_CONST_GFP_RUN_OF_ZEROS = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN;
const gfp_t LITEBOX_CONST_GFP_NOFAIL_ACCOUNT = GFP_KERNEL_ACCOUNT | __GFP_NOFAIL;
const unsigned int LITEBOX_CONST_WORK_BIT_USER_DISPATCH = SYSCALL_WORK_BIT_SYSCALL_USER_DISPATCH;
const unsigned short LITEBOX_CONST_USER_CS = __USER_CS;
const unsigned short LITEBOX_CONST_USER_DS = __USER_DS;
const unsigned long LITEBOX_CONST_HOST_EXIT = __NR_exit;
const unsigned long LITEBOX_CONST_HOST_EXIT_GROUP = __NR_exit_group;
const unsigned long LITEBOX_CONST_HOST_CLONE = __NR_clone;
const unsigned long LITEBOX_CONST_MAP_FLAGS = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
const unsigned long LITEBOX_CONST_PROT_RW = PROT_READ | PROT_WRITE;
const unsigned long LITEBOX_CONST_PRIVATE_MEMORY = MAP_PRIVATE | MAP_ANONYMOUS;
const fmode_t LITEBOX_CONST_MODE_READ = FMODE_READ;
const fmode_t LITEBOX_CONST_MODE_WRITE = FMODE_WRITE;
const fmode_t LITEBOX_CONST_MODE_PATH = FMODE_PATH;
const fmode_t LITEBOX_CONST_MODE_NOWAIT = FMODE_NOWAIT;
const rwf_t LITEBOX_CONST_DO_NOT_WAIT = RWF_NOWAIT;
const rwf_t LITEBOX_CONST_NO_SIGPIPE = RWF_NOSIGNAL;
const rwf_t LITEBOX_CONST_APPEND = RWF_APPEND;
