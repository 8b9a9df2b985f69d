/*
 * tree.c - the tree of topic levels. See tree.h.
 *
 * The edge table grows and shrinks by a bucket at a time (linear hashing), because moving a million nodes at
 * once would stop the loop for a quarter of a second. Of its room, a power of two, the first `used` buckets
 * are in use, always more than half. A hash whose bucket is not in use yet is in the one of half the room
 * before it, which is split when its turn comes:
 *
 *      0        half      used      room
 *      [ split   | not yet | new   |  ]          bucket half + i is what has been split off bucket i
 *
 * Only the room itself comes and goes by doubling, with realloc(): 8 bytes for a node.
 */
#include "broker/tree.h"
#include "broker/hash.h"
#include "broker/mem.h"
#include "broker/topic.h"
#include <stdlib.h>

enum {
    TABLE_FIRST = 64,
    STEPS = 4, /* buckets split or joined for a node at most: the table shrinks as fast as its nodes go */
};

uint32_t tree_hash_level(const struct tree *tree, struct slice level)
{
    return hash_bytes(tree->seed, level.p, level.n);
}

/* One block more, or less. */
static void hold(const struct tree *tree, size_t n)
{
    if (tree->counted) {
        mem_hold(n);
    }
}

static void drop_block(const struct tree *tree, size_t n)
{
    if (tree->counted) {
        mem_drop(n);
    }
}

static uint32_t edge_place(const struct tree *tree, const struct tree_node *parent, uint32_t hash)
{
    uint64_t h = ((uint64_t)(uintptr_t)parent ^ tree->seed) * 0x9E3779B97F4A7C15u;
    uint32_t place = ((uint32_t)(h >> 32) ^ hash) & tree->mask;
    return place < tree->used ? place : place & tree->mask >> 1;
}

int tree_init(struct tree *tree, size_t node_size, bool counted)
{
    *tree = (struct tree){.node_size = node_size,
                          .mask = TABLE_FIRST - 1,
                          .used = TABLE_FIRST,
                          .seed = hash_seed(),
                          .counted = counted};
    tree->root = calloc(1, node_size);
    tree->table = calloc(TABLE_FIRST, sizeof *tree->table);
    if (!tree->root || !tree->table) {
        free(tree->root);
        free(tree->table);
        return -1;
    }
    tree->root->uses = 1;
    hold(tree, TABLE_FIRST * sizeof *tree->table);
    return 0;
}

static void node_free(const struct tree *tree, struct tree_node *node)
{
    drop_block(tree, tree->node_size + node->level_size);
    free(node);
}

void tree_destroy(struct tree *tree, void (*drop)(struct tree_node *node))
{
    for (uint32_t i = 0; i < tree->used; i++) {
        for (struct tree_node *node = tree->table[i], *next; node; node = next) {
            next = node->chain;
            if (drop) {
                drop(node);
            }
            node_free(tree, node);
        }
    }
    if (drop) {
        drop(tree->root);
    }
    drop_block(tree, (tree->mask + (size_t)1) * sizeof *tree->table);
    free(tree->root);
    free(tree->table);
    *tree = (struct tree){0};
}

struct tree_node *tree_child(const struct tree *tree, const struct tree_node *parent, struct slice level,
                             uint32_t hash)
{
    struct tree_node *node = tree->table[edge_place(tree, parent, hash)];
    while (node && !(node->hash == hash && node->parent == parent && node->level_size == level.n &&
                     memcmp(node->level, level.p, level.n) == 0)) {
        node = node->chain;
    }
    return node;
}

static void use_room(struct tree *tree, struct tree_node **table, size_t size)
{
    hold(tree, size * sizeof *table);
    drop_block(tree, ((size_t)tree->mask + 1) * sizeof *table);
    tree->table = table;
    tree->mask = (uint32_t)(size - 1);
}

/* One bucket more: some nodes of the one that stood for it move there. False without memory. */
static bool split(struct tree *tree)
{
    if (tree->used > tree->mask) {
        size_t size = 2 * (size_t)tree->used;
        struct tree_node **table = realloc(tree->table, size * sizeof *table);
        if (!table) {
            return false;
        }
        use_room(tree, table, size);
    }
    uint32_t more = tree->used++;
    struct tree_node **from = &tree->table[more & tree->mask >> 1], **to = &tree->table[more];
    *to = NULL;
    while (*from) {
        struct tree_node *node = *from;
        if (edge_place(tree, node->parent, node->hash) == more) {
            *from = node->chain;
            node->chain = *to;
            *to = node;
        } else {
            from = &node->chain;
        }
    }
    return true;
}

/* One bucket less: its nodes go back. */
static void join(struct tree *tree)
{
    uint32_t less = --tree->used;
    struct tree_node **end = &tree->table[less & tree->mask >> 1];
    while (*end) {
        end = &(*end)->chain;
    }
    *end = tree->table[less];
    if (tree->used == (tree->mask >> 1) + 1) {
        struct tree_node **table = realloc(tree->table, tree->used * sizeof *table);
        use_room(tree, table ? table : tree->table, tree->used); /* what is larger does as well */
    }
}

/* Between a quarter and three quarters of a node for each bucket: far enough apart that a node which comes
 * and goes does not move others each time. */
static void fit_table(struct tree *tree)
{
    for (int i = 0; i < STEPS && tree->count > tree->used - tree->used / 4 && split(tree); i++) {
    }
    for (int i = 0; i < STEPS && tree->used > TABLE_FIRST && tree->count < tree->used / 4; i++) {
        join(tree);
    }
}

static struct tree_node *node_new(struct tree *tree, struct tree_node *parent, struct slice level,
                                  uint32_t hash)
{
    struct tree_node *node = malloc(tree->node_size + level.n);
    if (!node) {
        return NULL;
    }
    hold(tree, tree->node_size + level.n);
    memset(node, 0, tree->node_size);
    node->level = (uint8_t *)node + tree->node_size;
    memcpy(node->level, level.p, level.n);
    node->level_size = (uint16_t)level.n;
    node->hash = hash;
    node->parent = parent;
    node->next = parent->child;
    if (node->next) {
        node->next->prev = node;
    }
    parent->child = node;
    parent->uses++;
    tree->count++;
    fit_table(tree);
    struct tree_node **place = &tree->table[edge_place(tree, parent, hash)];
    node->chain = *place;
    *place = node;
    return node;
}

struct tree_node *tree_find(const struct tree *tree, struct slice topic)
{
    struct topic_walk walk = topic_walk(topic);
    struct tree_node *node = tree->root;
    struct slice level;
    while (node && topic_next_level(&walk, &level)) {
        node = tree_child(tree, node, level, tree_hash_level(tree, level));
    }
    return node;
}

struct tree_node *tree_make_child(struct tree *tree, struct tree_node *parent, struct slice level)
{
    uint32_t hash = tree_hash_level(tree, level);
    struct tree_node *child = tree_child(tree, parent, level, hash);
    if (!child) {
        child = node_new(tree, parent, level, hash);
    }
    if (!child) {
        tree_prune(tree, parent);
    }
    return child;
}

struct tree_node *tree_make(struct tree *tree, struct slice topic)
{
    struct topic_walk walk = topic_walk(topic);
    struct tree_node *node = tree->root;
    struct slice level;
    while (node && topic_next_level(&walk, &level)) {
        node = tree_make_child(tree, node, level);
    }
    return node;
}

void tree_prune(struct tree *tree, struct tree_node *node)
{
    while (node != tree->root && node->uses == 0) {
        struct tree_node *parent = node->parent;
        struct tree_node **place = &tree->table[edge_place(tree, parent, node->hash)];
        while (*place != node) {
            place = &(*place)->chain;
        }
        *place = node->chain;
        if (node->prev) {
            node->prev->next = node->next;
        } else {
            parent->child = node->next;
        }
        if (node->next) {
            node->next->prev = node->prev;
        }
        node_free(tree, node);
        tree->count--;
        fit_table(tree);
        parent->uses--;
        node = parent;
    }
}

size_t tree_topic(const struct tree_node *node, uint8_t *buf, size_t size)
{
    size_t length = 0;
    for (const struct tree_node *n = node; n->parent; n = n->parent) {
        length += n->level_size + (n->parent->parent ? 1u : 0u);
    }
    if (length > size) {
        return 0;
    }
    size_t at = length;
    for (const struct tree_node *n = node; n->parent; n = n->parent) {
        at -= n->level_size;
        memcpy(buf + at, n->level, n->level_size);
        if (n->parent->parent) {
            buf[--at] = '/';
        }
    }
    return length;
}
