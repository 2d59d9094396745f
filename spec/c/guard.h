/*
 * Memory that ends where a page without access begins (or begins where one ends), so that a read or
 * a write one byte too far is a crash even without a sanitizer.
 */
#ifndef KHP_SPEC_GUARD_H
#define KHP_SPEC_GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guard {
    uint8_t *bytes; /* n of them, with nothing behind */
    uint8_t *mapping;
    size_t mapped;
};

/* A copy of n bytes, or n zero bytes when from is NULL, directly before a guard page. */
static inline struct guard guard_new(const void *from, size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (n + page - 1) / page * page;
    struct guard guard = {.mapped = body + page};
    void *mapping =
        mmap(NULL, guard.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        abort();
    }
    guard.mapping = mapping;
    if (mprotect(guard.mapping + body, page, PROT_NONE) != 0) {
        abort();
    }
    guard.bytes = guard.mapping + body - n;
    if (from != NULL && n > 0) {
        memcpy(guard.bytes, from, n);
    }
    return guard;
}

static inline void guard_free(struct guard *guard) {
    munmap(guard->mapping, guard->mapped);
    guard->bytes = guard->mapping = NULL;
}

#endif
