// remote.js: the page's side of the connection, which itself runs in a worker (link.js, worker.js).
//
//   Remote --open, close, retry, ask--> worker
//          <--state, answer, batch----         each batch is taken in and then confirmed with `taken`
//
// It has the same face as Link: state, open, close, retryNow, subscribe, unsubscribe, publish.

// What is wrong with the address, in words; empty when nothing is. `page` is the page's own location.
export function urlError(text, page) {
    let url;
    try {
        url = new URL(text);
    } catch {
        return 'The address is not a URL; it should look like wss://gateway.local:8884/mqtt.';
    }
    if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
        return 'The address must begin with wss:// or ws://.';
    }
    if (url.username || url.password) {
        return 'User and password belong in their own fields, not in the address.';
    }
    if (url.protocol === 'ws:' && page.protocol === 'https:') {
        return 'A page that came over https cannot use ws://; use wss://.';
    }
    return '';
}

export function defaultUrl(page) {
    return (page.protocol === 'https:' ? 'wss://' : 'ws://') + page.host + '/mqtt';
}

export function randomClientId() {
    const bytes = crypto.getRandomValues(new Uint8Array(6));
    return 'dashboard-' + Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

// With Trusted Types a worker's address must come from a policy; this one knows a single address.
function workerUrl() {
    const name = 'worker.js';
    return globalThis.trustedTypes
        ? trustedTypes.createPolicy('bramble', { createScriptURL: () => name }).createScriptURL('')
        : name;
}

export class Remote {
    // hooks: state(name, words, retryAt), batch(batch), see worker.js
    constructor(hooks) {
        this.hooks = hooks;
        this.state = 'idle';
        this.era = 0; // counts open and close: what belongs to an earlier connection is not taken in
        this.asked = 0;
        this.pending = new Map();
        this.worker = new Worker(workerUrl());
        this.worker.onmessage = (e) => this.heard(e.data);
        this.broken = '';
        this.worker.onerror = (e) => {
            this.broken = 'The page is broken: ' + (e.message ?? 'worker.js was not loaded as a script.');
            this.set('refused', this.broken, 0);
        };
    }

    set(state, words, retryAt) {
        this.state = state;
        this.hooks.state(state, words, retryAt);
    }

    heard(data) {
        if (data.kind === 'answer') {
            const [resolve, reject] = this.pending.get(data.id);
            this.pending.delete(data.id);
            if (data.error === undefined) {
                resolve(data.value);
            } else {
                reject(new Error(data.error));
            }
        } else if (data.kind === 'batch') {
            if (data.era === this.era) {
                this.hooks.batch(data);
            }
            this.worker.postMessage({ act: 'taken' });
        } else if (data.era === this.era) {
            this.set(data.state, data.words, data.retryAt);
        }
    }

    open(access) {
        if (this.broken) {
            this.set('refused', this.broken, 0);
            return;
        }
        this.worker.postMessage({ act: 'open', access, era: ++this.era });
    }

    close() {
        this.worker.postMessage({ act: 'close', era: ++this.era });
        this.set('idle', '', 0);
    }

    retryNow() {
        this.worker.postMessage({ act: 'retry' });
    }

    // Resolves to the granted QoS; rejects with words.
    subscribe(filter, qos) {
        return this.ask('subscribe', [filter, qos]);
    }

    unsubscribe(filter) {
        return this.ask('unsubscribe', [filter]);
    }

    // Resolves when the broker has confirmed (QoS 0: when it is on its way).
    publish(topic, payload, qos, retain) {
        return this.ask('publish', [topic, payload, qos, retain]);
    }

    ask(name, args) {
        return new Promise((resolve, reject) => {
            const id = ++this.asked;
            this.pending.set(id, [resolve, reject]);
            this.worker.postMessage({ act: 'ask', id, name, args });
        });
    }
}
