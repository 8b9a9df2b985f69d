/*
 * subs.c - the subscription tree and its match. See subs.h.
 *
 *   node            slots: what the fan-out reads, one after the other in memory
 *   "tennis" ---->  | session, qos, sub | session, qos, sub | ...
 *                                 \-> sub { node, place }  <- session->subs[]
 *
 * To find a session's subscription at a node, the shorter of the two lists is searched: a session with ten
 * thousand filters meets nodes with few slots, a filter with ten thousand sessions meets sessions with few
 * filters.
 */
#include "broker/subs.h"
#include "broker/mem.h"
#include "broker/topic.h"
#include "broker/tree.h"
#include <stdlib.h>

struct slot {
    struct session *session;
    struct sub *sub;
    uint8_t qos;
    bool reads_all;  /* as long as... */
    uint32_t rights; /* ...session->rights is this; 0: nobody has asked */
};

struct sub_node {
    struct tree_node node;
    struct sub_node *plus, *hash; /* the children "+" and "#" */
    struct slot *slots;
    uint32_t count, cap;
};

struct sub {
    struct sub_node *node;
    uint32_t place; /* in node->slots */
    uint32_t index; /* in session->subs */
};

struct subs {
    struct tree tree;
    size_t count;
    struct match *matches;
    size_t match_count, match_cap;
    uint64_t stamp; /* number of the match under way */
    size_t visits;  /* nodes and subscriptions that it looked at */
    bool cut;
    struct slice levels[256]; /* of the topic under way */
    uint32_t hashes[256];
};

/* A subscription in the account of memory: itself, and its places in two lists that grow by doubling. */
enum { SUB_BYTES = sizeof(struct sub) + 2 * (sizeof(struct slot) + sizeof(struct sub *)) };

enum { MOST_LEVELS = sizeof((struct subs *)0)->levels / sizeof(struct slice) };

struct subs *subs_new(void)
{
    struct subs *subs = calloc(1, sizeof *subs);
    if (subs && tree_init(&subs->tree, sizeof(struct sub_node), true) < 0) {
        free(subs);
        subs = NULL;
    }
    return subs;
}

static void node_drop(struct tree_node *node)
{
    free(((struct sub_node *)node)->slots);
}

void subs_free(struct subs *subs)
{
    if (subs) {
        tree_destroy(&subs->tree, node_drop);
        free(subs->matches);
        free(subs);
    }
}

size_t subs_visits(const struct subs *subs)
{
    return subs->visits;
}

size_t subs_count(const struct subs *subs)
{
    return subs->count;
}

static struct slot *find_slot(const struct sub_node *node, const struct session *session)
{
    if (node->count <= session->sub_count) {
        for (uint32_t i = 0; i < node->count; i++) {
            if (node->slots[i].session == session) {
                return &node->slots[i];
            }
        }
        return NULL;
    }
    for (uint32_t i = 0; i < session->sub_count; i++) {
        if (session->subs[i]->node == node) {
            return &node->slots[session->subs[i]->place];
        }
    }
    return NULL;
}

/* The direct pointers to wildcard children live in the parent. */
static void link_wildcard(struct sub_node *node, struct sub_node *value)
{
    struct sub_node *parent = (struct sub_node *)node->node.parent;
    if (node->node.level_size == 1 && node->node.level[0] == '+') {
        parent->plus = value;
    } else if (node->node.level_size == 1 && node->node.level[0] == '#') {
        parent->hash = value;
    }
}

static void link_path(struct sub_node *node)
{
    for (; node->node.parent; node = (struct sub_node *)node->node.parent) {
        link_wildcard(node, node);
    }
}

/* Prunes upwards by hand, one node at a time, so that no parent keeps a pointer to a wildcard child that is
 * gone. */
static size_t prune(struct subs *subs, struct sub_node *node)
{
    size_t places = 1;
    for (struct sub_node *n = node; n->node.uses == 0;) {
        struct sub_node *parent = (struct sub_node *)n->node.parent;
        bool last_use = parent->node.uses == 1; /* never of the root, which counts itself */
        link_wildcard(n, NULL);
        free(n->slots);
        n->slots = NULL;
        places++;
        parent->node.uses++; /* holds the parent while this one goes */
        tree_prune(&subs->tree, &n->node);
        parent->node.uses--;
        if (!last_use) {
            break;
        }
        n = parent;
    }
    return places;
}

static bool make_room(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap) {
        return true;
    }
    uint32_t more = *cap ? 2 * *cap : 1;
    void *grown = realloc(*(void **)array, more * size);
    if (!grown) {
        return false;
    }
    *(void **)array = grown;
    *cap = more;
    return true;
}

int subs_add(struct subs *subs, struct session *session, struct slice filter, uint8_t qos)
{
    struct sub_node *node = (struct sub_node *)tree_make(&subs->tree, filter);
    if (!node) {
        return -1;
    }
    link_path(node);
    struct slot *slot = find_slot(node, session);
    if (slot) {
        slot->qos = qos;
        return 0;
    }
    struct sub *sub = malloc(sizeof *sub);
    if (!sub || !make_room(&node->slots, node->count, &node->cap, sizeof *node->slots) ||
        !make_room(&session->subs, session->sub_count, &session->sub_cap, sizeof(struct sub *))) {
        free(sub);
        prune(subs, node);
        return -1;
    }
    mem_hold(SUB_BYTES);
    *sub = (struct sub){node, node->count, session->sub_count};
    node->slots[node->count++] = (struct slot){.session = session, .sub = sub, .qos = qos};
    session->subs[session->sub_count++] = sub;
    node->node.uses++;
    subs->count++;
    return 1;
}

static size_t remove_slot(struct subs *subs, struct slot *slot)
{
    struct sub *sub = slot->sub;
    struct session *session = slot->session;
    struct sub_node *node = sub->node;
    *slot = node->slots[--node->count]; /* the last one takes its place */
    slot->sub->place = sub->place;
    session->subs[sub->index] = session->subs[--session->sub_count];
    session->subs[sub->index]->index = sub->index;
    free(sub);
    mem_drop(SUB_BYTES);
    if (session->sub_count == 0) {
        free(session->subs);
        session->subs = NULL;
        session->sub_cap = 0;
    }
    subs->count--;
    node->node.uses--;
    return prune(subs, node);
}

static struct slot *find_sub(struct subs *subs, const struct session *session, struct slice filter)
{
    struct sub_node *node = (struct sub_node *)tree_find(&subs->tree, filter);
    return node ? find_slot(node, session) : NULL;
}

bool subs_has(struct subs *subs, struct session *session, struct slice filter)
{
    return find_sub(subs, session, filter) != NULL;
}

int subs_qos(struct subs *subs, struct session *session, struct slice filter)
{
    const struct slot *slot = find_sub(subs, session, filter);
    return slot ? slot->qos : -1;
}

bool subs_remove(struct subs *subs, struct session *session, struct slice filter)
{
    struct slot *slot = find_sub(subs, session, filter);
    if (!slot) {
        return false;
    }
    remove_slot(subs, slot);
    return true;
}

bool subs_remove_some(struct subs *subs, struct session *session, size_t *places)
{
    while (session->sub_count > 0 && *places > 0) {
        struct sub *sub = session->subs[session->sub_count - 1];
        size_t used = remove_slot(subs, &sub->node->slots[sub->place]);
        *places -= used < *places ? used : *places;
    }
    return session->sub_count == 0;
}

void subs_remove_all(struct subs *subs, struct session *session)
{
    size_t places = SIZE_MAX;
    subs_remove_some(subs, session, &places);
}

void subs_reads(struct sub *sub, bool all)
{
    struct slot *slot = &sub->node->slots[sub->place];
    slot->reads_all = all;
    slot->rights = slot->session->rights;
}

size_t subs_filter(const struct sub *sub, uint8_t *buf, size_t size)
{
    return tree_topic(&sub->node->node, buf, size);
}

static enum reads slot_reads(const struct slot *slot)
{
    return slot->rights != slot->session->rights ? READS_UNKNOWN : slot->reads_all ? READS_ALL : READS_SOME;
}

static void add_match(struct subs *subs, const struct slot *slot)
{
    struct session *session = slot->session;
    enum reads reads = slot_reads(slot);
    if (session->match_stamp == subs->stamp) {
        struct match *known = &subs->matches[session->match_index];
        known->qos = slot->qos > known->qos ? slot->qos : known->qos;
        if (reads > known->reads) {
            known->reads = (uint8_t)reads;
            known->sub = slot->sub;
        }
        return;
    }
    if (subs->match_count == subs->match_cap) {
        size_t cap = subs->match_cap ? 2 * subs->match_cap : 64;
        struct match *grown = realloc(subs->matches, cap * sizeof *grown);
        if (!grown) {
            subs->cut = true;
            return;
        }
        subs->matches = grown;
        subs->match_cap = cap;
    }
    session->match_stamp = subs->stamp;
    session->match_index = (uint32_t)subs->match_count;
    subs->matches[subs->match_count++] = (struct match){session, slot->sub, slot->qos, (uint8_t)reads};
}

static void add_all(struct subs *subs, const struct sub_node *node)
{
    subs->visits += node ? node->count : 0;
    for (uint32_t i = 0; node && i < node->count; i++) {
        add_match(subs, &node->slots[i]);
    }
}

/* wild: whether '+' and '#' count at this level; they do not at the first one of a topic that starts with
 * '$'. */
static void walk(struct subs *subs, const struct sub_node *node, uint32_t at, uint32_t levels, bool wild)
{
    subs->visits++;
    if (wild) {
        add_all(subs, node->hash); /* also when the name ends here: "sport/#" matches "sport" */
    }
    if (at == levels) {
        add_all(subs, node);
        return;
    }
    const struct tree_node *child = tree_child(&subs->tree, &node->node, subs->levels[at], subs->hashes[at]);
    if (child) {
        walk(subs, (const struct sub_node *)child, at + 1, levels, true);
    }
    if (wild && node->plus) {
        walk(subs, node->plus, at + 1, levels, true);
    }
}

size_t subs_match(struct subs *subs, struct slice topic, const struct match **out, bool *cut)
{
    subs->stamp++;
    subs->match_count = 0;
    subs->cut = false;
    subs->visits = 0;
    struct topic_walk levels = topic_walk(topic);
    uint32_t n = 0;
    while (n < MOST_LEVELS && topic_next_level(&levels, &subs->levels[n])) {
        subs->hashes[n] = tree_hash_level(&subs->tree, subs->levels[n]);
        n++;
    }
    if (!levels.more) {
        walk(subs, (const struct sub_node *)subs->tree.root, 0, n, topic.n > 0 && topic.p[0] != '$');
    }
    *out = subs->matches;
    *cut = subs->cut || levels.more;
    return subs->match_count;
}

void subs_sweep(struct subs *subs, struct session *session,
                bool (*drop)(void *arg, struct slice filter, uint8_t qos), void *arg)
{
    uint8_t buf[UINT16_MAX];
    for (uint32_t i = session->sub_count; i-- > 0;) { /* the last one takes the place of one that goes */
        const struct sub *sub = session->subs[i];
        struct slot *slot = &sub->node->slots[sub->place];
        if (drop(arg, slice_of(buf, subs_filter(sub, buf, sizeof buf)), slot->qos)) {
            remove_slot(subs, slot);
        }
    }
}

bool subs_lower(struct session *session, uint8_t qos, void (*fn)(void *arg, struct slice filter, uint8_t qos),
                void *arg)
{
    uint8_t buf[UINT16_MAX];
    bool any = false;
    for (uint32_t i = 0; qos < 2 && i < session->sub_count; i++) {
        const struct sub *sub = session->subs[i];
        struct slot *slot = &sub->node->slots[sub->place];
        if (slot->qos > qos) {
            any = true;
            slot->qos = qos;
            fn(arg, slice_of(buf, subs_filter(sub, buf, sizeof buf)), qos);
        }
    }
    return any;
}
