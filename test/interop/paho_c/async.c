/*
 * async.c - the asynchronous client of paho C (MQTTAsync): everything by callbacks, many messages under way.
 *
 *   async URI [CA]    URI: tcp://, ssl://, ws:// or wss:// HOST:PORT
 *
 * One client subscribes and publishes to itself with QoS 2, 1 and 0 by turns, and a large message at the end.
 * Prints "ok" and exits 0, or says what was wrong and exits 1.
 */
#include <MQTTAsync.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 600, LARGE = 1 << 20, WAIT_S = 60 };

struct test {
    MQTTAsync client;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int connected, subscribed, next[3], large, disconnected;
};

static void fail(const char *what, int code)
{
    fprintf(stderr, "%s: %d\n", what, code);
    exit(1);
}

static void set(struct test *t, int *flag)
{
    pthread_mutex_lock(&t->lock);
    ++*flag;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void wait_for(struct test *t, const int *flag, int value, const char *what)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += WAIT_S;
    pthread_mutex_lock(&t->lock);
    while (*flag < value) {
        if (pthread_cond_timedwait(&t->changed, &t->lock, &end) != 0) {
            fail(what, *flag);
        }
    }
    pthread_mutex_unlock(&t->lock);
}

static void on_connect(void *context, MQTTAsync_successData *data)
{
    (void)data;
    set(context, &((struct test *)context)->connected);
}

static void on_subscribe(void *context, MQTTAsync_successData *data)
{
    if (data->alt.qos != 2) {
        fail("granted QoS", data->alt.qos);
    }
    set(context, &((struct test *)context)->subscribed);
}

static void on_disconnect(void *context, MQTTAsync_successData *data)
{
    (void)data;
    set(context, &((struct test *)context)->disconnected);
}

static void on_failure(void *context, MQTTAsync_failureData *data)
{
    (void)context;
    fprintf(stderr, "%s\n", data && data->message ? data->message : "");
    fail("failed", data ? data->code : 0);
}

static void on_lost(void *context, char *cause)
{
    (void)context;
    fprintf(stderr, "%s\n", cause ? cause : "");
    fail("connection lost", 0);
}

/* Messages of each QoS come in the order in which they were sent. */
static int on_message(void *context, char *topic, int size, MQTTAsync_message *message)
{
    struct test *t = context;
    (void)size;
    if (message->payloadlen == LARGE) {
        set(t, &t->large);
    } else {
        int number = atoi(message->payload); /* sent with its zero */
        if (number != t->next[message->qos] || strcmp(topic, "paho/async") != 0) {
            fprintf(stderr, "expected %d at QoS %d\n", t->next[message->qos], message->qos);
            fail("got", number);
        }
        set(t, &t->next[message->qos]);
    }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void send_text(struct test *t, const void *payload, int size, int qos)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.onFailure = on_failure;
    options.context = t;
    int rc = MQTTAsync_send(t->client, "paho/async", size, payload, qos, 0, &options);
    if (rc != MQTTASYNC_SUCCESS) {
        fail("send", rc);
    }
}

static void connect_to(struct test *t, const char *ca)
{
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
    tls.trustStore = ca;
    tls.verify = 1;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.maxInflight = 200;
    options.ssl = ca ? &tls : NULL;
    options.onSuccess = on_connect;
    options.onFailure = on_failure;
    options.context = t;
    int rc = MQTTAsync_connect(t->client, &options);
    if (rc != MQTTASYNC_SUCCESS) {
        fail("connect", rc);
    }
    wait_for(t, &t->connected, 1, "no CONNACK");
}

int main(int argc, char **argv)
{
    static struct test t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    static char large[LARGE];
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    MQTTAsync_disconnectOptions end = MQTTAsync_disconnectOptions_initializer;
    create.maxBufferedMessages = 10000;
    if (MQTTAsync_createWithOptions(&t.client, argv[1], "paho-async", MQTTCLIENT_PERSISTENCE_NONE, NULL,
                                    &create) ||
        MQTTAsync_setCallbacks(t.client, &t, on_lost, on_message, NULL)) {
        fail("create", 0);
    }
    connect_to(&t, argc > 2 ? argv[2] : NULL);
    response.onSuccess = on_subscribe;
    response.onFailure = on_failure;
    response.context = &t;
    if (MQTTAsync_subscribe(t.client, "paho/#", 2, &response)) {
        fail("subscribe", 0);
    }
    wait_for(&t, &t.subscribed, 1, "no SUBACK");
    for (int i = 0; i < COUNT; i++) {
        char text[16];
        int n = snprintf(text, sizeof text, "%d", i / 3) + 1;
        send_text(&t, text, n, 2 - i % 3);
    }
    send_text(&t, large, LARGE, 1);
    for (int qos = 0; qos <= 2; qos++) {
        wait_for(&t, &t.next[qos], COUNT / 3, "messages are missing");
    }
    wait_for(&t, &t.large, 1, "the large message is missing");
    end.onSuccess = on_disconnect;
    end.context = &t;
    MQTTAsync_disconnect(t.client, &end);
    wait_for(&t, &t.disconnected, 1, "no end");
    MQTTAsync_destroy(&t.client);
    puts("ok");
    return 0;
}
