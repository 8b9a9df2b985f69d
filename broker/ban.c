/*
 * ban.c - failed logins, counted. See ban.h.
 *
 * An entry's key is the seeded hash of what it is for (64 bits that nobody can choose), so the table below it
 * needs no seed of its own. uthash keeps entries in the order in which they were added; an entry that is used
 * is taken out and added again.
 */
#include "broker/ban.h"
#include "broker/slice.h"
#include <stdlib.h>

enum kind { USER, PAIR, ADDRESS, KINDS };

void ban_init(struct ban *ban)
{
    *ban = (struct ban){.seed = siphash_key_new()};
}

static void table_free(struct ban_entry **table)
{
    struct ban_entry *entry, *next;
    HASH_ITER(hh, *table, entry, next) {
        HASH_DEL(*table, entry);
        free(entry);
    }
}

void ban_free(struct ban *ban)
{
    table_free(&ban->failing);
    table_free(&ban->known);
}

static uint64_t key_of(const struct ban *ban, enum kind kind, const struct principal *who)
{
    struct slice user = slice_str(who->user);
    struct {
        uint64_t kind, origin, user;
    } what = {.kind = (uint64_t)kind};
    if (kind != USER) {
        what.origin = principal_origin(who);
    }
    if (kind != ADDRESS) {
        what.user = siphash(&ban->seed, user.p, user.n);
    }
    return siphash(&ban->seed, &what, sizeof what);
}

static struct ban_entry *find(struct ban_entry *table, uint64_t key)
{
    struct ban_entry *entry = NULL;
    HASH_FIND(hh, table, &key, sizeof key, entry);
    return entry;
}

/* The entry, made when it is not there, as the one used last. NULL without memory. */
static struct ban_entry *use(struct ban_entry **table, uint64_t key, unsigned most)
{
    struct ban_entry *entry = find(*table, key);
    struct ban_entry fresh = {.key = key};
    if (entry) {
        fresh = *entry;
    } else if (HASH_COUNT(*table) >= most) {
        entry = *table; /* the place of the one used least recently */
    }
    if (entry) {
        HASH_DEL(*table, entry);
    } else if (!(entry = malloc(sizeof *entry))) {
        return NULL;
    }
    *entry = fresh;
    HASH_ADD(hh, *table, key, sizeof entry->key, entry);
    if (!entry->hh.tbl) {
        free(entry);
        return NULL;
    }
    return entry;
}

static bool banned(const struct ban *ban, enum kind kind, const struct principal *who, int64_t now)
{
    const struct ban_entry *entry = find(ban->failing, key_of(ban, kind, who));
    return entry && now < entry->until;
}

/* A ban of a user is for addresses from which he has failed: since its window began, or in a ban of that. */
static bool has_failed(const struct ban *ban, const struct ban_rule *rule, const struct principal *who,
                       int64_t now)
{
    const struct ban_entry *pair = find(ban->failing, key_of(ban, PAIR, who));
    return pair && now - pair->since < rule->window_ms + rule->time_ms;
}

bool ban_refuses(const struct ban *ban, const struct ban_rule *rule, const struct principal *who, int64_t now)
{
    if (rule->failures == 0) {
        return false;
    }
    if (banned(ban, PAIR, who, now)) {
        return true;
    }
    if (find(ban->known, key_of(ban, PAIR, who))) {
        return false;
    }
    return (principal_origin(who) != ORIGIN_HERE && banned(ban, ADDRESS, who, now)) ||
           (banned(ban, USER, who, now) && has_failed(ban, rule, who, now));
}

/* Counts one more, and begins a ban when there are enough; then counting begins anew. Returns how many there
 * are, 0 when it cannot be counted. */
static uint32_t count(struct ban *ban, const struct ban_rule *rule, enum kind kind,
                      const struct principal *who, int64_t now, bool *began)
{
    struct ban_entry *entry = use(&ban->failing, key_of(ban, kind, who), BAN_FAILING_MOST);
    if (!entry) {
        return 0;
    }
    if (now - entry->since >= rule->window_ms) {
        entry->since = now;
        entry->failures = 0;
    }
    uint32_t failures = ++entry->failures;
    if (failures >= rule->failures) {
        *began = now >= entry->until;
        entry->until = now + rule->time_ms;
        entry->failures = 0;
    }
    return failures;
}

/* Half of the failures are answered as usual, the next after twice the time, four times... */
static unsigned slower(uint32_t failures, const struct ban_rule *rule)
{
    unsigned times = 1;
    for (uint32_t i = rule->failures / 2; i < failures && times < BAN_SLOWEST; i++) {
        times *= 2;
    }
    return times;
}

struct ban_failure ban_failed(struct ban *ban, const struct ban_rule *rule, const struct principal *who,
                              int64_t now)
{
    static const enum ban_began names[KINDS] = {BAN_USER, BAN_PAIR, BAN_ADDRESS};
    struct ban_failure failure = {.slower = 1};
    for (enum kind kind = 0; rule->failures && kind < KINDS; kind++) {
        bool began = false;
        if (kind == ADDRESS && principal_origin(who) == ORIGIN_HERE) {
            continue;
        }
        unsigned times = slower(count(ban, rule, kind, who, now, &began), rule);
        failure.slower = times > failure.slower ? times : failure.slower;
        failure.began = began ? names[kind] : failure.began; /* of several the one that says most */
    }
    return failure;
}

void ban_succeeded(struct ban *ban, const struct ban_rule *rule, const struct principal *who)
{
    if (rule->failures == 0) {
        return;
    }
    uint64_t key = key_of(ban, PAIR, who);
    struct ban_entry *pair = find(ban->failing, key);
    if (pair) {
        HASH_DEL(ban->failing, pair);
        free(pair);
    }
    use(&ban->known, key, BAN_KNOWN_MOST);
}
