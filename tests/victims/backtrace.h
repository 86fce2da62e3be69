// Truth about stacks: beside each block, the return addresses that the C runtime's unwinder gives at that point.
//
// A function whose name begins with `take` allocates and calls `told`; the truth of that block is the stack from the caller
// of that function on. It is kept in static memory and written to a file in the end, so that nothing here allocates.
#ifndef BACKTRACE_H
#define BACKTRACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The truth will be written to the file of that name. Writes down what is mapped now.
void begin_truth(const char *path);

// Blocks are told of from here on; those from before are nobody's business.
void start_telling(void);

// Code was mapped or unmapped: addresses mean something else from here on.
void code_changed(void);

// Blocks told of from here on may have met code that was mapped just now.
void code_is_fresh(int fresh);

// The caller has just allocated a block of `size` bytes, and keeps it for ever.
void told(void *block, size_t size);

// Allocates `size` bytes and tells of it.
void *take(size_t size);

// A size that no block had before.
size_t another_size(void);

// The caller is about to make a call that returns to `return_address` and whose return is probed: a backtrace from within
// it ends at the probe, and goes on with this address and the stack of the caller's caller.
void probed_call(uintptr_t return_address);

// Writes everything to the file, and tells of nothing more; answers how many blocks there are.
uint64_t write_truth(void);

#ifdef __cplusplus
}
#endif

#endif
