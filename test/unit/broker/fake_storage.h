/*
 * fake_storage.h - stable storage that commits when the test says so.
 *
 * It keeps a copy of the batch under way and sees to it that the batch stays as it was until the commit, as
 * storage.h promises to the thread that will write it.
 */
#ifndef BRAMBLE_TEST_FAKE_STORAGE_H
#define BRAMBLE_TEST_FAKE_STORAGE_H

#include "broker/msg.h"
#include "broker/store.h"
#include <stdlib.h>
#include <string.h>

struct fake_storage {
    struct storage port;       /* first */
    const struct batch *batch; /* under way, or NULL */
    struct change *copy;
    size_t count;
    int batches; /* handed over until now */
};

static inline void fake_storage_submit(struct storage *port, const struct batch *batch)
{
    struct fake_storage *fake = (struct fake_storage *)port;
    if (fake->batch) {
        abort(); /* one at a time */
    }
    fake->batch = batch;
    fake->count = batch->count;
    fake->copy = malloc(batch->count * sizeof *fake->copy + 1);
    memcpy(fake->copy, batch->changes, batch->count * sizeof *fake->copy);
    fake->batches++;
}

static inline void fake_storage_init(struct fake_storage *fake)
{
    *fake = (struct fake_storage){.port = {.submit = fake_storage_submit}};
}

/* How many changes of a kind are under way. */
static inline size_t fake_storage_has(const struct fake_storage *fake, enum change_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; fake->batch && i < fake->count; i++) {
        n += fake->copy[i].kind == kind;
    }
    return n;
}

/* The answer comes. False when nothing is under way, or when somebody changed what is. */
static inline bool fake_storage_answer(struct fake_storage *fake, enum storage_error error, const char *why)
{
    if (!fake->batch) {
        return false;
    }
    bool same = fake->batch->count == fake->count &&
                memcmp(fake->batch->changes, fake->copy, fake->count * sizeof *fake->copy) == 0;
    uint64_t number = fake->batch->number;
    fake->batch = NULL;
    free(fake->copy);
    fake->copy = NULL;
    const struct storage_events *events = &fake->port.events;
    if (why) {
        events->failed(events->arg, number, error, why);
    } else {
        events->committed(events->arg, number);
    }
    return same;
}

static inline bool fake_storage_commit(struct fake_storage *fake)
{
    return fake_storage_answer(fake, STORAGE_ERROR, NULL);
}

/* For teardowns: what was under way is forgotten, as in a crash. */
static inline void fake_storage_free(struct fake_storage *fake)
{
    free(fake->copy);
    *fake = (struct fake_storage){0};
}

#endif
