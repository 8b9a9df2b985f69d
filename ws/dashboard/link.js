// link.js: the connection. One MQTT 3.1.1 client over WebSocket at a time, and why it is in the state it is
// in.
//
//   idle --open--> connecting --CONNACK 0--> connected --lost--> lost --(1, 2, 4 ... 30 s)--> connecting ...
//                      |                                           \--CONNACK 1, 2, 4, 5--> refused
//                      \--CONNACK 1..5, no answer--> refused
//
// Each attempt is a new client of mqtt.js (its own reconnecting is off), so nothing piles up while the broker
// is away: a publish under way when the connection breaks is reported as not confirmed. The password is held
// in memory only, and only while it may still be needed to connect again.
//
// It runs in a worker (worker.js), where timers keep their time although the page is hidden. mqtt.js would
// make another worker from a blob for its own timers, which the Content-Security-Policy forbids; native ones
// do. A quiet link is probed by a PING, so that a dead one is noticed within half a minute.

const KEEPALIVE = 60;
const CONNECT_TIMEOUT = 15000;
const QUIET = 20000;
const PROBE = 8000;
const STEADY = 30000;
const LONGEST_WAIT = 30000;

const refusals = {
    1: 'The broker does not accept MQTT 3.1.1 (code 1).',
    2: 'The broker does not accept this client id (code 2).',
    3: 'The broker is not available at the moment (code 3).',
    4: 'Wrong user name or password (code 4).',
    5: 'Wrong user name or password, or this user may not connect (code 5).',
};

export class Link {
    // hooks: state(name, words, retryAt), message(topic, payload, packet)
    constructor(mqtt, hooks) {
        this.mqtt = mqtt;
        this.hooks = hooks;
        this.state = 'idle';
        this.client = null;
        this.pending = new Set();
        setInterval(() => this.probe(), 5000);
    }

    // access: { url, user, password, clientId }
    open(access) {
        this.close();
        this.access = access;
        this.tries = 0;
        this.everConnected = false;
        this.connect();
    }

    close() {
        clearTimeout(this.retryTimer);
        const client = this.client;
        this.client = null;
        this.access = null;
        client?.end(client.connected ? false : true);
        this.failPending('The connection was closed before the broker confirmed.');
        this.set('idle', '');
    }

    set(state, words, retryAt = 0) {
        this.state = state;
        this.hooks.state(state, words, retryAt);
    }

    connect() {
        clearTimeout(this.retryTimer);
        const { url, user, password, clientId } = this.access;
        this.reason = '';
        this.code = 0;
        this.set('connecting', this.everConnected ? 'Connecting again …' : 'Connecting …');
        const client = this.mqtt.connect(url, {
            username: user || undefined,
            password: password || undefined,
            clientId,
            protocolId: 'MQTT',
            protocolVersion: 4,
            clean: true,
            keepalive: KEEPALIVE,
            connectTimeout: CONNECT_TIMEOUT,
            reconnectPeriod: 0,
            resubscribe: false,
            queueQoSZero: false,
            timerVariant: 'native',
            // mqtt.js drops the brackets of [::1] from the address
            createWebsocket: (_, protocols) => new WebSocket(url, protocols),
        });
        this.client = client;
        this.listen(client);
    }

    // A client that was replaced or closed may still speak; what it says no longer counts.
    listen(client) {
        const current =
            (act) =>
            (...args) => {
                if (this.client === client) {
                    act(...args);
                }
            };
        client.on(
            'connect',
            current(() => {
                this.everConnected = true;
                this.since = this.heard = Date.now();
                this.set('connected', 'Connected.');
            }),
        );
        client.on(
            'packetreceive',
            current(() => {
                this.heard = Date.now();
            }),
        );
        client.on(
            'message',
            current((topic, payload, packet) => this.hooks.message(topic, payload, packet)),
        );
        client.on(
            'error',
            current((err) => {
                if (this.state === 'connected') {
                    this.reason = 'The connection failed: ' + err.message;
                    this.broken();
                } else {
                    this.code = typeof err?.code === 'number' ? err.code : 0;
                    this.reason =
                        refusals[this.code] ??
                        (this.code ? 'The broker refused (code ' + this.code + ').' : '');
                }
            }),
        );
        client.on(
            'close',
            current(() => this.broken()),
        );
    }

    broken() {
        const client = this.client;
        const wasConnected = this.state === 'connected';
        this.client = null;
        client.end(true);
        this.failPending('The connection was lost before the broker confirmed.');
        if (wasConnected && Date.now() - this.since > STEADY) {
            this.tries = 0;
        }
        const final = this.code !== 0 && this.code !== 3;
        if (final || !this.everConnected) {
            const words = this.reason || this.silence();
            this.access = null;
            this.set('refused', words);
            return;
        }
        const wait = Math.min(LONGEST_WAIT, 1000 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
        this.retryTimer = setTimeout(() => this.connect(), wait);
        const words = wasConnected
            ? this.reason || 'The connection was lost.'
            : this.reason || 'The broker does not answer.';
        this.set('lost', words, Date.now() + wait);
    }

    silence() {
        return (
            'No answer from ' +
            new URL(this.access.url).host +
            '. Is the broker running, is the address right, and does the browser trust its certificate?'
        );
    }

    retryNow() {
        if (this.state === 'lost') {
            this.connect();
        }
    }

    // Who has heard nothing for a while asks; no answer means that the link is dead.
    probe() {
        const client = this.client;
        if (this.state !== 'connected' || Date.now() - this.heard < QUIET) {
            return;
        }
        const asked = Date.now();
        client.sendPing();
        setTimeout(() => {
            if (this.client === client && this.state === 'connected' && this.heard < asked) {
                this.reason = 'The broker stopped answering.';
                this.broken();
            }
        }, PROBE);
        this.heard = asked - 1; // so that this question is asked once
    }

    // Resolves to the granted QoS; rejects with words.
    subscribe(filter, qos) {
        return this.ask((client, done) =>
            client.subscribe(filter, { qos }, (err, granted) => {
                const answer = granted?.[0]?.qos;
                if (err || answer === undefined || answer > 2) {
                    const answered = !err || err.packet; // a SUBACK: what was granted is not to be believed
                    done(
                        new Error(answered ? 'The broker does not allow this subscription.' : err.message),
                    );
                } else {
                    done(null, answer);
                }
            }),
        );
    }

    unsubscribe(filter) {
        return this.ask((client, done) => client.unsubscribe(filter, done));
    }

    // Resolves when the broker has confirmed (QoS 0: when it is on its way).
    publish(topic, payload, qos, retain) {
        return this.ask((client, done) => client.publish(topic, payload, { qos, retain }, done));
    }

    ask(act) {
        return new Promise((resolve, reject) => {
            if (this.state !== 'connected') {
                reject(new Error('Not connected.'));
                return;
            }
            const entry = { reject };
            this.pending.add(entry);
            act(this.client, (err, value) => {
                this.pending.delete(entry);
                if (err) {
                    reject(err);
                } else {
                    resolve(value);
                }
            });
        });
    }

    failPending(words) {
        const pending = [...this.pending];
        this.pending.clear();
        pending.forEach((entry) => entry.reject(new Error(words)));
    }
}
