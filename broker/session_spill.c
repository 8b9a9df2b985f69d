/*
 * session_spill.c - messages that are in the store only. See session_spill.h.
 *
 * A page is asked for while the last ones of the queue go out, and one at a time. Whoever waits for it is
 * named by the page itself: a session that ends meanwhile takes its name out.
 */
#include "broker/session_spill.h"
#include "broker/log.h"
#include "broker/mem.h"
#include "broker/stored.h"
#include <inttypes.h>
#include <stdlib.h>

enum {
    QUEUE_COST = 300,   /* bytes of a message that waits in memory, beside its payload */
    PAGE = 64,          /* messages asked for at once */
    PAGE_WHEN = 32,     /* when fewer wait in memory */
    FAR_BEHIND = 256,   /* messages that wait for one who is there: more than a burst */
    ORIGINS_KEPT = 256, /* principals */
    NUMBERS_FIRST = 64,
};

struct page {
    struct fetch fetch; /* first */
    struct sessions *sessions;
    struct session *session; /* NULL: gone */
    uint64_t numbers[PAGE];
};

/* Whoever is there and does not acknowledge must not fill the memory either: then all who publish would be
 * turned away. It takes what waits in memory first, so a page is there in time, and waits for no commit. */
bool spill_wanted(const struct sessions *sessions, const struct session *session)
{
    uint64_t limit = sessions->limits.queue_memory;
    if (session->spill) {
        return true;
    }
    return limit > 0 && (!session->peer || session->queue.count >= FAR_BEHIND) &&
           sessions->queued_bytes + sessions->queued * QUEUE_COST >= limit;
}

static struct spill *spill_of(struct session *session)
{
    if (!session->spill) {
        session->spill = calloc(1, sizeof *session->spill);
        session->owing.spills = session->spill != NULL;
    }
    return session->spill;
}

static uint64_t *number_at(const struct spill *spill, uint32_t i)
{
    return &spill->numbers[(spill->head + i) & (spill->cap - 1)];
}

static void numbers_free(const struct spill *spill)
{
    if (spill->numbers) {
        mem_drop(spill->cap * sizeof *spill->numbers);
        free(spill->numbers);
    }
}

static bool numbers_resize(struct spill *spill, uint32_t cap)
{
    uint64_t *numbers = malloc(cap * sizeof *numbers);
    if (!numbers) {
        return false;
    }
    for (uint32_t i = 0; i < spill->count; i++) {
        numbers[i] = *number_at(spill, i);
    }
    mem_hold(cap * sizeof *numbers);
    numbers_free(spill);
    spill->numbers = numbers;
    spill->cap = cap;
    spill->head = 0;
    return true;
}

static void look_first(struct session *session)
{
    const struct spill *spill = session->spill;
    session->owing.spilled = spill && spill->count > 0 ? *number_at(spill, 0) : 0;
}

struct delivery *spill_push(struct session *session)
{
    struct spill *spill = spill_of(session);
    return spill ? ring_push(&spill->pending) : NULL;
}

int spill_put(struct session *session, uint64_t number, uint64_t bytes)
{
    struct spill *spill = spill_of(session);
    if (!spill || (spill->count == spill->cap &&
                   !numbers_resize(spill, spill->cap ? 2 * spill->cap : (uint32_t)NUMBERS_FIRST))) {
        return -1;
    }
    spill->count++;
    spill->bytes += bytes;
    *number_at(spill, spill->count - 1) = number;
    look_first(session);
    return 0;
}

/* Behind an own number nothing of it stays in memory. Without memory for that it stays, and so do all later
 * ones: they are not the oldest pending one any more. */
void spill_stored(struct sessions *sessions, struct session *session, uint64_t number)
{
    struct ring *pending = &session->spill->pending;
    struct delivery *d = pending->count > 0 ? ring_at(pending, 0) : NULL;
    if (!d || store_number_of(d->owed) != number || spill_put(session, number, d->msg->payload_size) < 0) {
        return;
    }
    session_unqueued(sessions, session, d->msg);
    store_forget(d->owed);
    msg_unref(d->msg);
    ring_pop(pending);
    ring_trim(pending);
}

static void pop_number(struct session *session)
{
    struct spill *spill = session->spill;
    spill->head = (spill->head + 1) & (spill->cap - 1);
    spill->count--;
    if (spill->cap > NUMBERS_FIRST && 4 * spill->count < spill->cap) {
        numbers_resize(spill, spill->cap / 2);
    }
    look_first(session);
}

static void spill_free(struct session *session)
{
    struct spill *spill = session->spill;
    numbers_free(spill);
    ring_free(&spill->pending);
    free(spill);
    session->spill = NULL;
    session->owing.spills = false;
    session->owing.spilled = 0;
}

/* It has caught up: what waits for its commit stands behind nothing any more. */
static void caught_up(struct session *session)
{
    struct ring *pending = &session->spill->pending;
    while (pending->count > 0) {
        struct delivery *d = ring_push(&session->queue);
        if (!d) {
            return; /* later */
        }
        *d = *ring_at(pending, 0);
        ring_pop(pending);
    }
    spill_free(session);
}

/* ---- pages ---- */

static void damaged(struct sessions *sessions, struct session *session, uint64_t number)
{
    log_write(LOG_T_ERROR,
              "A message for client %s (number %" PRIu64 ") cannot be read from the store: it is lost.",
              session->client_id, number);
    session->dropped++;
    sessions->dropped++;
    store_discharge_spilled(sessions->store, &session->owing, number);
}

/* False: no memory, it stays where it is. */
static bool come_back(struct sessions *sessions, struct session *session, const struct stored_delivery *row)
{
    struct msg *msg = stored_msg(sessions->origins, row->message);
    struct delivery *d = msg ? ring_push(&session->queue) : NULL;
    if (!d) {
        msg_unref(msg);
        return false;
    }
    uint64_t number = row->message->number;
    *d = (struct delivery){.msg = msg,
                           .seq = session->seq++,
                           .qos = row->qos,
                           .retain = row->retain,
                           .dup = number <= session->spill->old,
                           .owed = store_owed(&session->owing, number)};
    session_queued(sessions, session, msg);
    session->spill->bytes -= msg->payload_size;
    return true;
}

static void take_page(struct sessions *sessions, struct session *session, const struct fetch *fetch)
{
    for (uint32_t i = 0; i < fetch->count; i++) {
        const struct stored_delivery *row = &fetch->rows[i];
        if (row->message && !come_back(sessions, session, row)) {
            break;
        }
        pop_number(session);
        if (!row->message) {
            damaged(sessions, session, fetch->numbers[i]);
        }
    }
    session->policy = 0; /* whether it may still have them */
    if (session->spill->count == 0) {
        caught_up(session);
    }
    if (session->peer) {
        peer_wake(session->peer);
    }
}

/* It is asked for again in a while, or when its client says something before. */
static void not_read(struct sessions *sessions, struct session *session)
{
    sessions->unread = true;
    if (!session->spill->unread) {
        session->spill->unread = true;
        log_write(LOG_T_WARNING, "The messages of client %s cannot be read from the store now.",
                  session->client_id);
    }
}

static void page_read(struct mail *mail)
{
    struct page *page = (struct page *)mail;
    struct sessions *sessions = page->sessions;
    struct session *session = page->session;
    if (session) {
        session->spill->page = NULL;
        if (page->fetch.failed) {
            not_read(sessions, session);
        } else {
            session->spill->unread = false;
            take_page(sessions, session, &page->fetch);
        }
    }
    store_rows_free(sessions->store, &page->fetch);
    free(page);
}

static void ask(struct sessions *sessions, struct session *session)
{
    struct spill *spill = session->spill;
    struct page *page = malloc(sizeof *page);
    if (!sessions->origins) {
        sessions->origins = stored_origins_new(ORIGINS_KEPT);
    }
    if (!page || !sessions->origins) {
        sessions->unread = true;
        free(page);
        return;
    }
    *page = (struct page){.fetch = {.mail = {.fn = page_read},
                                    .session = session->number,
                                    .count = spill->count < PAGE ? spill->count : PAGE,
                                    .numbers = page->numbers},
                          .sessions = sessions,
                          .session = session};
    for (uint32_t i = 0; i < page->fetch.count; i++) {
        page->numbers[i] = *number_at(spill, i);
    }
    spill->page = page;
    store_fetch(sessions->store, &page->fetch);
}

void spill_go_on(struct sessions *sessions, struct session *session)
{
    struct spill *spill = session->spill;
    if (spill->page || session->queue.count >= PAGE_WHEN) {
        return;
    }
    if (spill->count > 0) {
        ask(sessions, session);
    } else {
        caught_up(session);
    }
}

void sessions_read_again(struct sessions *sessions)
{
    struct session *session, *next;
    sessions->unread = false;
    HASH_ITER(hh, sessions->by_id, session, next) {
        if (session->spill && session->peer) {
            peer_wake(session->peer);
        }
    }
}

uint32_t spill_count(const struct session *session)
{
    return session->spill ? session->spill->count + session->spill->pending.count : 0;
}

uint64_t spill_bytes(const struct session *session)
{
    return session->spill ? session->spill->bytes : 0;
}

void spill_gone(struct session *session)
{
    struct spill *spill = session->spill;
    if (spill && spill->page) {
        spill->page->session = NULL;
        spill->page = NULL;
    }
    session->owing.spills = false;
}

bool spill_bury(struct sessions *sessions, struct session *session, size_t *places)
{
    struct spill *spill = session->spill;
    if (!spill) {
        return true;
    }
    for (; spill->count > 0 && *places > 0; --*places) {
        store_discharge_spilled(sessions->store, &session->owing, *number_at(spill, 0));
        pop_number(session);
    }
    if (spill->count > 0 || !session_drop_some(sessions, &spill->pending, places)) {
        return false;
    }
    spill_free(session);
    return true;
}
