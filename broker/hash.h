/*
 * hash.h - uthash, which by itself ends the program when it gets no memory.
 *
 * Whoever adds an entry looks at entry->hh.tbl behind the HASH_ADD: NULL says that there was no memory and
 * that the table is as it was before.
 */
#ifndef BRAMBLE_HASH_H
#define BRAMBLE_HASH_H

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((void)(entry))
#include <uthash.h>

#endif
