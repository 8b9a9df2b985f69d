/*
 * stable.c - the durable store's life in the daemon. See stable.h.
 *
 * The names of listeners. A message in the store names the listener that its publisher came by, because its
 * rights may be asked for again after a restart; numbers would not do, they change with the configuration. So
 * each has a name made of what tells it from all others: port and address, or the socket's path. Of one that
 * is not found the port is enough, if one listener has it: somebody has given it another address.
 */
#include "broker/stable.h"
#include "broker/clock.h"
#include "broker/log.h"
#include "broker/mailbox.h"
#include "broker/restore.h"
#include "broker/service.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_MS = 5000 /* twice */, LOOK_US = 1000, FAILURES = 2 };

struct stable {
    struct storage *storage;
    bool runs;               /* its threads do */
    bool said;               /* that the end has left something out */
    struct restore *restore; /* between stable_load() and stable_start() */
    int notify_fd;
    size_t count;
    char *names[]; /* of the listeners */
};

/* ---- opening ---- */

static char *listener_name(const struct config_listener *l)
{
    static const char *const domains[] = {
        [DOMAIN_ANY] = "", [DOMAIN_IPV4] = " ipv4", [DOMAIN_IPV6] = " ipv6"};
    char *name = NULL;
    if (l->port == 0) {
        return strdup(l->unix_path);
    }
    if (asprintf(&name, "%d %s%s%s%s", l->port,
                 l->loopback_only ? "localhost"
                 : l->host        ? l->host
                                  : "*",
                 domains[l->socket_domain], l->bind_interface ? " " : "",
                 l->bind_interface ? l->bind_interface : "") < 0) {
        return NULL;
    }
    return name;
}

static struct stable *stable_new(const struct config *config)
{
    struct stable *stable = calloc(1, sizeof *stable + config->listener_count * sizeof(char *));
    if (!stable) {
        return NULL;
    }
    for (; stable->count < config->listener_count; stable->count++) {
        stable->names[stable->count] = listener_name(&config->listeners[stable->count]);
        if (!stable->names[stable->count]) {
            stable_close(stable);
            return NULL;
        }
    }
    return stable;
}

/* Somebody who comes from mosquitto may look for what it had stored. */
static void say_not_imported(const struct config *config)
{
    char *path = NULL;
    const char *location = config->persistence_location ? config->persistence_location : ".";
    if (asprintf(&path, "%s/mosquitto.db", location) >= 0) {
        if (strcmp(config->persistence_file, "mosquitto.db") != 0 && access(path, F_OK) == 0) {
            log_write(LOG_T_NOTICE,
                      "%s, a store of mosquitto, is left as it is: its messages are not imported.", path);
        }
        free(path);
    }
}

/* A listener may have got another port or address. Who came by it keeps what it is owed, where all listeners
 * ask the same password file and ACL: then it does not matter which of them is asked. Not one that takes its
 * users from certificates, if there is another: it would not look for them in the password file. */
static size_t stand_in(const struct config *config)
{
    size_t found = 0;
    for (size_t i = config->listener_count; i-- > 0;) {
        const struct config_listener *l = &config->listeners[i];
        if (l->security != &config->securities[0]) { /* its own */
            return 0;
        }
        found = found == 0 || !(l->use_identity_as_username || l->use_subject_as_username) ? i + 1 : found;
    }
    return found;
}

static struct storage *open_storage(const struct stable *stable, const struct config *config,
                                    struct mailbox *mailbox, struct err *err)
{
    static const enum storage_sync syncs[] = {
        [SYNC_FULL] = STORAGE_SYNC_FULL, [SYNC_NORMAL] = STORAGE_SYNC_NORMAL, [SYNC_OFF] = STORAGE_SYNC_OFF};
    return storage_open(&(struct storage_options){.path = config->persistence_path,
                                                  .sync = syncs[config->persistence_sync],
                                                  .min_free = config->persistence_min_free,
                                                  .listeners = (const char *const *)stable->names,
                                                  .listener_count = stable->count,
                                                  .stand_in = stand_in(config),
                                                  .mailbox = mailbox},
                        err);
}

int stable_open(struct stable **out, const struct config *config, struct mailbox *mailbox, struct err *err)
{
    *out = NULL;
    if (!config->persistence) {
        return 0;
    }
    struct stable *stable = stable_new(config);
    if (!stable) {
        return err_set(err, "Error: out of memory for the store");
    }
    say_not_imported(config);
    stable->storage = open_storage(stable, config, mailbox, err);
    if (!stable->storage) {
        stable_close(stable);
        return config_blame(config->persistence_at, "persistence", err);
    }
    *out = stable;
    return 0;
}

struct storage *stable_storage(const struct stable *stable)
{
    return stable ? stable->storage : NULL;
}

/* ---- reading back ---- */

/* A service manager that waits for READY=1 is told to wait on. */
static void progress(void *arg, const char *text)
{
    const struct stable *stable = arg;
    struct err err;
    char message[256];
    log_write(LOG_T_INFO, "Store: %s", text);
    snprintf(message, sizeof message, "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=Store: %s", text);
    service_notify(stable->notify_fd, message, &err);
}

int stable_load(struct stable *stable, struct broker *broker, int notify_fd, struct err *err)
{
    if (!stable) {
        return 0;
    }
    uint64_t last;
    stable->notify_fd = notify_fd;
    stable->restore = restore_new(broker);
    if (!stable->restore) {
        return err_set(err, "Error: out of memory for what was stored");
    }
    log_write(LOG_T_INFO, "Store: reading %s.", broker->config->persistence_path);
    if (storage_load(stable->storage, restore_reader(stable->restore), &last, progress, stable, err) < 0) {
        return config_blame(broker->config->persistence_at, "persistence", err);
    }
    if (restore_loaded(stable->restore, last) < 0) {
        return err_set(err, "Error: out of memory for what was stored");
    }
    return 0;
}

int stable_start(struct stable *stable, struct err *err)
{
    if (!stable) {
        return 0;
    }
    restore_finish(stable->restore);
    stable->restore = NULL;
    stable->runs = storage_start(stable->storage, err) == 0;
    return stable->runs ? 0 : -1;
}

/* ---- the end ---- */

static void say_end(struct stable *stable, const struct broker *broker)
{
    const char *trouble = store_trouble(broker->store);
    if (stable->said || store_idle(broker->store)) {
        return;
    }
    stable->said = true;
    if (*trouble) {
        log_write(LOG_T_ERROR, "The store has failed: %s. What was not acknowledged may be lost.", trouble);
    } else {
        log_write(LOG_T_WARNING,
                  "The store has not taken everything within %d seconds. What was not "
                  "acknowledged may be lost.",
                  DRAIN_MS / 1000);
    }
}

/* Two failures: between them what frees room on a full disk may have gone. */
void stable_drain(struct stable *stable, struct broker *broker)
{
    if (!stable || !stable->runs) {
        return;
    }
    int64_t end = clock_ms() + DRAIN_MS;
    uint64_t failures = store_counts(broker->store)->failures;
    for (;;) {
        store_submit(broker->store, true);
        peer_list_flush(&broker->flush); /* acknowledgements, as far as the sockets take them */
        if (store_idle(broker->store) || clock_ms() > end ||
            store_counts(broker->store)->failures - failures >= FAILURES) {
            break;
        }
        if (mailbox_drain(loop_mailbox(broker->loop)) == 0) {
            usleep(LOOK_US);
        }
    }
    say_end(stable, broker);
}

/* What the threads have answered names the store, and what they are asked is the store's: so they end before
 * it, and their last answers are heard. */
void stable_stop(struct stable *stable, struct broker *broker)
{
    if (stable && stable->runs) {
        stable_drain(stable, broker);
        storage_stop(stable->storage);
        stable->runs = false;
        mailbox_drain(loop_mailbox(broker->loop));
    }
}

void stable_close(struct stable *stable)
{
    if (!stable) {
        return;
    }
    restore_free(stable->restore);
    storage_close(stable->storage);
    for (size_t i = 0; i < stable->count; i++) {
        free(stable->names[i]);
    }
    free(stable);
}
