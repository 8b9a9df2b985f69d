/*
 * reserve.c - memory for libev. See reserve.h.
 *
 * The reserve costs nothing while it is not touched: it is room for arrays of 32768 descriptors to double.
 * Blocks in it are not given back one by one; it is empty again when the last of them is gone. A block leaves
 * it as soon as there is memory and its size changes.
 */
#include "broker/reserve.h"
#include "broker/log.h"
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* libev's hook has no argument: hence the global. */
static struct {
    size_t used;
    unsigned blocks;
    _Alignas(max_align_t) uint8_t bytes[4 << 20];
} reserve;

/* Stands before a block in the reserve. */
struct reserved {
    _Alignas(max_align_t) size_t size;
};

static bool is_reserved(const void *block)
{
    return (const uint8_t *)block >= reserve.bytes &&
           (const uint8_t *)block < reserve.bytes + sizeof reserve.bytes;
}

static void *take(size_t size)
{
    size_t align = _Alignof(max_align_t),
           whole = (sizeof(struct reserved) + size + align - 1) / align * align;
    struct reserved *block = (void *)(reserve.bytes + reserve.used);

    if (size > sizeof reserve.bytes || whole > sizeof reserve.bytes - reserve.used) {
        return NULL;
    }
    if (reserve.blocks++ == 0) {
        log_write(LOG_T_WARNING, "Out of memory: the event loop goes on with its reserve.");
    }
    block->size = size;
    reserve.used += whole;
    return block + 1;
}

static size_t block_size(void *block)
{
    if (!block) {
        return 0;
    }
    return is_reserved(block) ? ((struct reserved *)block - 1)->size : malloc_usable_size(block);
}

static void block_free(void *block)
{
    if (!is_reserved(block)) {
        free(block);
    } else if (--reserve.blocks == 0) {
        reserve.used = 0;
    }
}

void *reserve_realloc(void *block, long size)
{
    size_t n = (size_t)size, before;
    bool reserved = is_reserved(block);
    void *other;

    if (n == 0) {
        block_free(block);
        return NULL;
    }
    other = reserved ? malloc(n) : realloc(block, n);
    if (other && !reserved) {
        return other;
    }
    other = other ? other : take(n);
    if (other && block) {
        before = block_size(block);
        memcpy(other, block, before < n ? before : n);
        block_free(block);
    }
    return other;
}
