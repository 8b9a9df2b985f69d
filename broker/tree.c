/*
 * tree.c - the tree of topic levels. See tree.h.
 */
#include "broker/tree.h"
#include "broker/hash.h"
#include "broker/mem.h"
#include "broker/topic.h"
#include <stdlib.h>

enum { TABLE_FIRST = 64 };

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
    return ((uint32_t)(h >> 32) ^ hash) & tree->mask;
}

int tree_init(struct tree *tree, size_t node_size, bool counted)
{
    *tree = (struct tree){
        .node_size = node_size, .mask = TABLE_FIRST - 1, .seed = hash_seed(), .counted = counted};
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
    for (uint32_t i = 0; i <= tree->mask; i++) {
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

/* Size: a power of two. When there is no memory for it, it stays as it is. */
static void table_resize(struct tree *tree, size_t size)
{
    uint32_t old_mask = tree->mask;
    struct tree_node **old = tree->table;
    struct tree_node **table = calloc(size, sizeof *table);
    if (!table) {
        return;
    }
    hold(tree, size * sizeof *table);
    drop_block(tree, ((size_t)old_mask + 1) * sizeof *table);
    tree->table = table;
    tree->mask = (uint32_t)(size - 1);
    for (uint32_t i = 0; i <= old_mask; i++) {
        for (struct tree_node *node = old[i], *next; node; node = next) {
            next = node->chain;
            struct tree_node **place = &table[edge_place(tree, node->parent, node->hash)];
            node->chain = *place;
            *place = node;
        }
    }
    free(old);
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
    if (tree->count++ > tree->mask) {
        table_resize(tree, 2 * ((size_t)tree->mask + 1));
    }
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
        parent->uses--;
        node = parent;
    }
    if (tree->mask >= TABLE_FIRST && tree->count < tree->mask / 8) {
        table_resize(tree, ((size_t)tree->mask + 1) / 2);
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
