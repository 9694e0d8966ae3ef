/* Counts this program's heap allocations per thread: the linker sends malloc, calloc and realloc
 * of our own objects and static libraries here (CMakeLists.txt, --wrap). What shared libraries
 * allocate on their own is not seen. Builds with sanitizers leave it out. */
#include "cli/bench.h"

static _Thread_local uint64_t allocations;

uint64_t mj_bench_allocations(void) { return allocations; }

#ifdef MOONJET_COUNT_ALLOCATIONS
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    allocations++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    allocations++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    allocations++;
    return __real_realloc(p, n);
}
#endif
