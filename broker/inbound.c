/*
 * inbound.c - the set of inbound identifiers. See inbound.h.
 */
#include "broker/inbound.h"
#include "broker/mem.h"
#include <stdlib.h>
#include <string.h>

enum { PAGE_IDS = 64 };

struct inbound_page {
    uint16_t number; /* of its first identifier, divided by PAGE_IDS */
    uint64_t used;
    struct ticket *ticket[PAGE_IDS]; /* references */
};

static uint64_t bit(uint16_t id)
{
    return (uint64_t)1 << id % PAGE_IDS;
}

/* The first place whose page does not come before that of id. */
static uint32_t place(const struct inbound *in, uint16_t id)
{
    uint32_t low = 0, high = in->pages;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (in->page[mid]->number < id / PAGE_IDS) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct inbound_page *page_at(const struct inbound *in, uint32_t i, uint16_t id)
{
    return i < in->pages && in->page[i]->number == id / PAGE_IDS ? in->page[i] : NULL;
}

static void page_free(struct inbound_page *page)
{
    mem_drop(sizeof *page);
    free(page);
}

static struct inbound_page *page_insert(struct inbound *in, uint32_t i, uint16_t id)
{
    if (in->pages == in->cap) {
        uint32_t cap = in->cap ? 2 * in->cap : 2;
        struct inbound_page **grown = realloc(in->page, cap * sizeof *grown);
        if (!grown) {
            return NULL;
        }
        in->page = grown;
        in->cap = cap;
    }
    struct inbound_page *page = calloc(1, sizeof *page);
    if (!page) {
        return NULL;
    }
    mem_hold(sizeof *page);
    page->number = id / PAGE_IDS;
    memmove(&in->page[i + 1], &in->page[i], (in->pages - i) * sizeof(struct inbound_page *));
    in->page[i] = page;
    in->pages++;
    return page;
}

bool inbound_has(const struct inbound *in, uint16_t id, struct ticket **ticket)
{
    const struct inbound_page *page = page_at(in, place(in, id), id);
    if (!page || !(page->used & bit(id))) {
        return false;
    }
    if (ticket) {
        *ticket = page->ticket[id % PAGE_IDS];
    }
    return true;
}

int inbound_add(struct inbound *in, uint16_t id, struct ticket *ticket)
{
    uint32_t i = place(in, id);
    struct inbound_page *page = page_at(in, i, id);
    if (!page && !(page = page_insert(in, i, id))) {
        return -1;
    }
    page->used |= bit(id);
    page->ticket[id % PAGE_IDS] = ticket_ref(ticket);
    in->count++;
    return 0;
}

bool inbound_remove(struct inbound *in, uint16_t id)
{
    uint32_t i = place(in, id);
    struct inbound_page *page = page_at(in, i, id);
    if (!page || !(page->used & bit(id))) {
        return false;
    }
    ticket_unref(page->ticket[id % PAGE_IDS]);
    page->ticket[id % PAGE_IDS] = NULL;
    page->used &= ~bit(id);
    in->count--;
    if (page->used == 0) {
        page_free(page);
        in->pages--;
        memmove(&in->page[i], &in->page[i + 1], (in->pages - i) * sizeof(struct inbound_page *));
    }
    if (in->pages == 0) {
        free(in->page);
        in->page = NULL;
        in->cap = 0;
    }
    return true;
}

void inbound_freed(struct inbound *in, struct ticket *ticket)
{
    ticket_unref(in->freed);
    in->freed = ticket_ref(ticket);
}

void inbound_free(struct inbound *in)
{
    ticket_unref(in->freed);
    for (uint32_t i = 0; i < in->pages; i++) {
        for (int k = 0; k < PAGE_IDS; k++) {
            ticket_unref(in->page[i]->ticket[k]);
        }
        page_free(in->page[i]);
    }
    free(in->page);
    *in = (struct inbound){0};
}
