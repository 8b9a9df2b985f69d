/*
 * script.c - sessions first, then messages with all other kinds of changes between them, at the end nothing
 * is owed any more. See script.h.
 */
#include "test/faults/script.h"
#include "broker/msg.h"
#include "broker/principal.h"
#include "test/faults/shim_vfs.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGES = 256 };

static struct principal *somebody(const char *client_id)
{
    struct principal *who = principal_new();
    who->client_id = strdup(client_id);
    strcpy(who->address, "10.0.0.1");
    return who;
}

static struct msg *some_message(const char *topic, size_t size, uint8_t qos, bool retain, unsigned int *seed)
{
    uint8_t *payload = malloc(size + 1);
    char client[16];
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)chance(seed);
    snprintf(client, sizeof client, "p%u", chance(seed) % 3);
    struct principal *who = somebody(client);
    struct msg *msg = msg_new(slice_str(topic), slice_of(payload, size), qos, retain, who);
    principal_unref(who);
    free(payload);
    return msg;
}

static struct change *put(struct batch *batch, enum change_kind kind, uint64_t session, uint64_t number)
{
    struct change *change = &batch->changes[batch->count++];
    assert(batch->count <= CHANGES);
    *change = (struct change){.kind = (uint8_t)kind, .session = session, .number = number};
    batch->last = number > batch->last ? number : batch->last;
    return change;
}

static struct change *put_text(struct batch *batch, enum change_kind kind, uint64_t session, const char *text)
{
    struct change *change = put(batch, kind, session, 0);
    change->text = (uint8_t *)strdup(text);
    change->count = (uint32_t)strlen(text);
    return change;
}

static void put_sessions(struct batch *batch)
{
    for (unsigned int s = 1; s <= SESSIONS; s++) {
        char name[16];
        snprintf(name, sizeof name, "client%u", s);
        put_text(batch, CHANGE_SESSION, s, name)->who = somebody(name);
        put_text(batch, CHANGE_SUBSCRIBE, s, "a/#")->qos = 2;
    }
    batch->last = SESSIONS;
}

static void put_message(struct batch *batch, uint64_t number, size_t size, unsigned int *seed)
{
    struct change *change = put(batch, CHANGE_MESSAGE, 0, number);
    change->msg = some_message("a/topic", size, (uint8_t)(1 + chance(seed) % 2), false, seed);
    change->owed = calloc(SESSIONS, sizeof *change->owed);
    for (unsigned int s = 1; s <= SESSIONS; s++)
        if (s == 1 + number % SESSIONS || chance(seed) % 3 == 0)
            change->owed[change->count++] = (struct recipient){.session = s, .qos = change->msg->qos};
}

/* Some of the other kinds, with numbers that were given before. */
static void put_others(struct batch *batch, int i, unsigned int *seed)
{
    char text[16];
    snprintf(text, sizeof text, "r/%u", chance(seed) % 5);
    put(batch, CHANGE_RETAINED, 0, 0)->msg =
        some_message(text, chance(seed) % 4 ? chance(seed) % 200 : 0, 1, true, seed);
    put(batch, CHANGE_MARK, 1 + chance(seed) % SESSIONS, batch->last - 1 - chance(seed) % 4);
    put(batch, CHANGE_DONE, 1 + chance(seed) % SESSIONS, batch->last - 1);
    put(batch, i % 3 ? CHANGE_IN_ID : CHANGE_IN_ID_DONE, 1 + chance(seed) % 2, 0)->id = (uint16_t)(1 + i / 3);
    struct change *out = put(batch, i % 4 ? CHANGE_OUT : CHANGE_OUT_DONE, 3, i % 4 ? batch->last - 2 : 0);
    out->id = (uint16_t)(1 + i % 2);
    out->qos = 2;
    if (i % 2)
        put(batch, CHANGE_MESSAGE_GONE, 0, batch->last - 5);
    snprintf(text, sizeof text, "client%u", 1 + chance(seed) % 2);
    struct change *will = put_text(batch, i % 5 ? CHANGE_WILL : CHANGE_WILL_GONE, 0, text);
    if (i % 5)
        will->msg = some_message("w/t", 20, 1, false, seed);
}

/* At the end nothing is owed any more: which numbers were given is to be known all the same. */
static void put_end(struct batch *batch, uint64_t number)
{
    for (uint64_t s = 1; s <= SESSIONS; s++)
        put(batch, CHANGE_MARK, s, number);
    for (uint64_t n = SESSIONS + 1; n <= number; n++)
        put(batch, CHANGE_MESSAGE_GONE, 0, n);
    batch->last = number;
}

void make_script(struct script *script, size_t sizes, int messages)
{
    unsigned int seed = 1; /* always the same: its texts are compared, its operations counted */
    uint64_t number = SESSIONS;
    for (int i = 1; i <= BATCHES; i++) {
        struct batch *batch = &script->batch[i];
        batch->changes = calloc(CHANGES, sizeof *batch->changes);
        batch->last = number;
        if (i == 1)
            put_sessions(batch);
        for (int m = 0; i > 1 && i < BATCHES && m < messages; m++)
            put_message(batch, ++number, sizes / 2 + chance(&seed) % (sizes / 2), &seed);
        if (i == BATCHES)
            put_end(batch, number + 1);
        else if (i > 4)
            put_others(batch, i, &seed);
        number = batch->last;
        script->numbers[i] = number;
    }
}

void free_script(struct script *script)
{
    for (int i = 0; i <= BATCHES; i++) {
        struct batch *batch = &script->batch[i];
        for (size_t c = 0; c < batch->count; c++) {
            msg_unref(batch->changes[c].msg);
            principal_unref(batch->changes[c].who);
            free(batch->changes[c].text);
        }
        free(batch->changes);
        free(script->after[i]);
    }
}
