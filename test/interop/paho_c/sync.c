/*
 * sync.c - the synchronous client of paho C (MQTTClient), with its receiving thread.
 *
 *   sync URI [CA]     URI: tcp://, ssl://, ws:// or wss:// HOST:PORT
 *
 * Publishes to itself with each QoS and checks what comes, in order; then breaks off, is written to
 * meanwhile, and comes back to its session. Prints "ok" and exits 0, or says what was wrong and exits 1.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 100, WAIT_MS = 30000 };

static void fail(const char *what, int code)
{
    fprintf(stderr, "%s: %d (%s)\n", what, code, MQTTClient_strerror(code) ? MQTTClient_strerror(code) : "?");
    exit(1);
}

static void check(const char *what, int rc)
{
    if (rc != MQTTCLIENT_SUCCESS) {
        fail(what, rc);
    }
}

static MQTTClient new_client(const char *uri, const char *id)
{
    MQTTClient client;
    check("create", MQTTClient_create(&client, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL));
    return client;
}

static void connect_to(MQTTClient client, const char *ca, int clean, int present)
{
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    tls.trustStore = ca;
    tls.verify = 1;
    options.MQTTVersion = MQTTVERSION_3_1_1;
    options.cleansession = clean;
    options.maxInflightMessages = 50;
    options.ssl = ca ? &tls : NULL;
    check("connect", MQTTClient_connect(client, &options));
    if (options.returned.sessionPresent != present) {
        fail("session present", options.returned.sessionPresent);
    }
}

static void receive(MQTTClient client, int number, int qos)
{
    char *topic = NULL, text[32];
    int size;
    MQTTClient_message *message = NULL;
    int rc = MQTTClient_receive(client, &topic, &size, &message, WAIT_MS);
    if ((rc != MQTTCLIENT_SUCCESS && rc != MQTTCLIENT_TOPICNAME_TRUNCATED) || !message) {
        fail("receive", rc);
    }
    snprintf(text, sizeof text, "%d", number);
    if (message->payloadlen != (int)strlen(text) || memcmp(message->payload, text, strlen(text)) != 0 ||
        message->qos != qos || strcmp(topic, "paho/sync") != 0) {
        fprintf(stderr, "expected %d at QoS %d, got '%.*s' at QoS %d on %s\n", number, qos,
                message->payloadlen, (char *)message->payload, message->qos, topic);
        exit(1);
    }
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
}

static void publish(MQTTClient client, int number, int qos)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%d", number);
    MQTTClient_deliveryToken token;
    check("publish", MQTTClient_publish(client, "paho/sync", n, text, qos, 0, &token));
    if (qos > 0 && number % 10 == 9) {
        check("completion", MQTTClient_waitForCompletion(client, token, WAIT_MS));
    }
}

int main(int argc, char **argv)
{
    const char *uri = argv[1], *ca = argc > 2 ? argv[2] : NULL;
    MQTTClient reader = new_client(uri, "paho-sync-reader"), writer = new_client(uri, "paho-sync-writer");
    connect_to(reader, ca, 0, 0);
    connect_to(writer, ca, 1, 0);
    check("subscribe", MQTTClient_subscribe(reader, "paho/sync", 2));
    for (int qos = 0; qos <= 2; qos++) {
        for (int i = 0; i < COUNT; i++) {
            publish(writer, i, qos);
        }
        for (int i = 0; i < COUNT; i++) {
            receive(reader, i, qos);
        }
    }
    check("disconnect", MQTTClient_disconnect(reader, 1000));
    for (int i = 0; i < COUNT; i++) {
        publish(writer, i, 2);
    }
    connect_to(reader, ca, 0, 1);
    for (int i = 0; i < COUNT; i++) {
        receive(reader, i, 2);
    }
    check("unsubscribe", MQTTClient_unsubscribe(reader, "paho/sync"));
    check("disconnect", MQTTClient_disconnect(reader, 1000));
    check("disconnect", MQTTClient_disconnect(writer, 1000));
    MQTTClient_destroy(&reader);
    MQTTClient_destroy(&writer);
    puts("ok");
    return 0;
}
