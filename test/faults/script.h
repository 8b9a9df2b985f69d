/*
 * script.h - batches for the durable store, always the same ones, and what it holds after each of them.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "broker/storage.h"

enum { BATCHES = 16, SESSIONS = 4, TEXT = 1 << 16 };

/* What the store holds, one line for each object. */
struct text {
    size_t n;
    uint64_t last;
    char p[TEXT];
};

struct script {
    struct batch batch[BATCHES + 1]; /* from 1 on */
    struct text *after[BATCHES + 1]; /* 0: before the first */
    uint64_t numbers[BATCHES + 1];   /* the highest one that was given then */
};

/* sizes: payloads up to that; messages: so many in a batch. The texts are the caller's to learn. */
void make_script(struct script *script, size_t sizes, int messages);
void free_script(struct script *script);

#endif
