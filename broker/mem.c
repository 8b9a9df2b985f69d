/*
 * mem.c - one number. See mem.h.
 */
#include "broker/mem.h"

static uint64_t held;

void mem_hold(size_t n)
{
    held += n + MEM_BLOCK;
}

void mem_drop(size_t n)
{
    held -= n + MEM_BLOCK;
}

uint64_t mem_held(void)
{
    return held;
}
