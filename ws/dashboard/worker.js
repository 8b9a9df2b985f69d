// worker.js: runs the connection (link.js, mqtt.js) beside the page, and hands messages over in batches.
//
//   broker --> mqtt.js --> hold: at most HOLD messages, HOLD_BYTES --flush, every EVERY ms--> page
//                                                                  <--------taken----------
//
// Thousands of WebSocket events a second would take turns with the page's own work and starve its painting.
// Here they cost the page some twenty batches a second. While the page has not taken the last ones nothing is
// sent; what no longer fits is counted as lost, not kept.

import { Link } from './link.js';
import { LIMITS } from './values.js';

const EVERY = 40;
const UNDERWAY = 2;
const HOLD = 20000;
const HOLD_BYTES = 16 * 1024 * 1024;

let era = 0;
let underway = 0;
let timer = 0;
let flushedAt = 0;
let hold = emptyHold();

const link = new Link(mqtt, {
    state: (state, words, retryAt) => {
        flush(); // what came before the change is shown before it
        postMessage({ kind: 'state', era, state, words, retryAt });
    },
    message: keep,
});

function emptyHold() {
    return { topics: [], payloads: [], sizes: [], times: [], flags: [], bytes: 0, received: 0, lost: 0 };
}

function keep(topic, payload, packet) {
    hold.received += payload.length + topic.length;
    if (hold.topics.length >= HOLD || hold.bytes >= HOLD_BYTES) {
        hold.lost++;
        return;
    }
    const kept = payload.length > LIMITS.keep ? payload.subarray(0, LIMITS.keep) : payload;
    hold.topics.push(topic);
    hold.payloads.push(kept);
    hold.sizes.push(payload.length);
    hold.times.push(performance.timeOrigin + performance.now());
    hold.flags.push(packet.qos | (packet.retain ? 4 : 0) | (packet.dup ? 8 : 0));
    hold.bytes += kept.length;
    plan();
}

// The next flush: EVERY ms after the last one, and not before the page has taken an earlier batch.
function plan() {
    if (timer === 0 && underway < UNDERWAY && hold.topics.length > 0) {
        timer = setTimeout(flush, Math.max(0, flushedAt + EVERY - Date.now()));
    }
}

// All payloads go in one block, which changes hands without a copy.
function flush() {
    clearTimeout(timer);
    timer = 0;
    if (hold.topics.length === 0) {
        return;
    }
    flushedAt = Date.now();
    const block = new Uint8Array(hold.bytes);
    const ends = [];
    let at = 0;
    for (const payload of hold.payloads) {
        block.set(payload, at);
        at += payload.length;
        ends.push(at);
    }
    const { topics, sizes, times, flags, received, lost } = hold;
    hold = emptyHold();
    underway++;
    postMessage({ kind: 'batch', era, topics, sizes, times, flags, received, lost, ends, block }, [
        block.buffer,
    ]);
}

const acts = {
    open: (data) => {
        restart(data.era);
        link.open(data.access);
    },
    close: (data) => {
        restart(data.era);
        link.close();
    },
    retry: () => link.retryNow(),
    taken: () => {
        underway--;
        plan();
    },
    ask: ({ id, name, args }) =>
        link[name](...args).then(
            (value) => {
                flush();
                postMessage({ kind: 'answer', id, value: typeof value === 'number' ? value : undefined });
            },
            (err) => postMessage({ kind: 'answer', id, error: err.message }),
        ),
};

function restart(next) {
    era = next;
    hold = emptyHold();
}

addEventListener('message', (e) => acts[e.data.act](e.data));
