// model.js: what the page knows of the broker's topics. No DOM, no clock of its own (times are handed in).
//
//   batch --ingest(topic, payload, packet, now)--> Model --> Topic --> recent  (last messages, bytes counted)
//                                                                  \-> series  (last numeric values, a ring)
//
// Work per message is constant, whatever the page shows. Memory is bounded four times (values.js, LIMITS):
//   topics       `topics` for each of the two groups; further ones are counted, not kept
//   messages     `recent` a topic, `recentSelected` for the selected one, each cut at `keep` bytes
//   their sum    `bytes` over all topics; beyond it every topic but the selected one gives half of them back
//   points       `points` a topic, `pointsSelected` for the selected one
// Payloads are copied: what comes in is a window on a larger block (a batch), which would be kept alive.

import { LIMITS, Series, fieldValue, parseJson, parseNumber, pickField } from './values.js';

const RATE_TIME = 5; // seconds

export class Topic {
    constructor(name, now) {
        this.name = name;
        this.count = 0;
        this.live = 0;
        this.bytes = 0;
        this.first = now;
        this.lastTime = now;
        this.recent = [];
        this.recentCap = LIMITS.recent;
        this.series = null;
        this.field = null;
        this.jsonTime = -Infinity;
        this.decayed = 0;
        this.selected = false;
    }

    get last() {
        return this.recent[this.recent.length - 1];
    }

    // Messages a second, smoothed over some seconds; retained messages are history, not traffic.
    rate(now) {
        if (this.live < 2) {
            return 0;
        }
        const age = Math.max(1, (now - this.first) / 1000);
        const raw = this.decayed * Math.exp(-(now - this.lastTime) / 1000 / RATE_TIME);
        return raw / (1 - Math.exp(-age / RATE_TIME));
    }

    countRate(now, retain) {
        this.decayed *= Math.exp(-(now - this.lastTime) / 1000 / RATE_TIME);
        if (!retain) {
            this.decayed += 1 / RATE_TIME;
            this.live++;
        }
        this.lastTime = now;
    }

    addPoint(payload, now) {
        let value = parseNumber(payload);
        if (Number.isNaN(value)) {
            if (!this.selected && now - this.jsonTime < LIMITS.jsonEvery) {
                return;
            }
            const json = parseJson(payload);
            if (json === null) {
                return;
            }
            this.jsonTime = now;
            this.field ??= pickField(json);
            value = this.field ? fieldValue(json, this.field.path) : NaN;
        }
        if (Number.isFinite(value)) {
            this.series ??= new Series(this.selected ? LIMITS.pointsSelected : LIMITS.points);
            this.series.push(now, value);
        }
    }

    // Another field of JSON payloads: the chart begins anew with what the kept messages say.
    setField(field) {
        this.field = field;
        this.series = new Series(this.selected ? LIMITS.pointsSelected : LIMITS.points);
        for (const message of this.recent) {
            const json = parseJson(message.payload);
            const value = json === null ? NaN : fieldValue(json, field.path);
            if (Number.isFinite(value)) {
                this.series.push(message.time, value);
            }
        }
    }
}

export class Model {
    constructor() {
        this.groups = { user: new Map(), sys: new Map() };
        this.selected = null;
        this.version = 0; // grows when topics come or go
        this.keptBytes = 0;
        this.notKept = 0; // messages of topics beyond the bound
        this.lost = 0; // messages that came faster than this device could take them
    }

    // Forgets all topics, or all but the broker's own.
    clear(keepSys = false) {
        const sys = keepSys ? this.groups.sys : new Map();
        this.select(null);
        this.groups = { user: new Map(), sys };
        this.version++;
        this.notKept = 0;
        this.lost = 0;
        this.keptBytes = 0;
        for (const topic of sys.values()) {
            for (const message of topic.recent) {
                this.keptBytes += message.payload.length + LIMITS.overhead;
            }
        }
    }

    topic(name) {
        return this.groups.user.get(name) ?? this.groups.sys.get(name);
    }

    // size: of the whole payload, of which `payload` may be the beginning.
    ingest(name, payload, packet, now, size = payload.length) {
        const group = name.startsWith('$SYS/') ? this.groups.sys : this.groups.user;
        let topic = group.get(name);
        if (topic === undefined) {
            if (group.size >= LIMITS.topics || name.length > LIMITS.name) {
                this.notKept++;
                return null;
            }
            topic = new Topic(name, now);
            group.set(name, topic);
            this.version++;
        }
        topic.count++;
        topic.bytes += size;
        topic.countRate(now, packet.retain);
        this.remember(topic, payload, packet, now, size);
        topic.addPoint(payload, now);
        return topic;
    }

    remember(topic, payload, packet, now, size) {
        const copy = new Uint8Array(payload.subarray(0, LIMITS.keep));
        topic.recent.push({
            number: topic.count,
            time: now,
            payload: copy,
            size,
            qos: packet.qos,
            retain: Boolean(packet.retain),
            dup: Boolean(packet.dup),
        });
        this.keptBytes += copy.length + LIMITS.overhead;
        while (topic.recent.length > topic.recentCap) {
            this.forgetOldest(topic);
        }
        if (this.keptBytes > LIMITS.bytes) {
            this.giveBack(topic);
        }
    }

    forgetOldest(topic) {
        this.keptBytes -= topic.recent.shift().payload.length + LIMITS.overhead;
    }

    // Over budget: every other topic gives up the older half; if that is not enough, all but its last
    // message, cut.
    giveBack(keep) {
        for (const share of [0.5, 0]) {
            for (const group of Object.values(this.groups)) {
                for (const topic of group.values()) {
                    const left =
                        topic === keep
                            ? topic.recent.length
                            : Math.max(
                                  1,
                                  Math.floor(topic.recent.length * (topic === this.selected ? 1 : share)),
                              );
                    while (topic.recent.length > left) {
                        this.forgetOldest(topic);
                    }
                    if (share === 0 && topic !== keep) {
                        this.cutLast(topic);
                    }
                }
            }
            if (this.keptBytes <= LIMITS.bytes * 0.75) {
                return;
            }
        }
    }

    cutLast(topic) {
        const last = topic.last;
        const room = Math.min(1024, last.payload.length);
        this.keptBytes -= last.payload.length - room;
        last.payload = last.payload.slice(0, room);
    }

    // The selected topic keeps more; the one left gives back what it no longer needs.
    select(topic) {
        if (this.selected) {
            this.setCaps(this.selected, false);
        }
        this.selected = topic;
        if (topic) {
            this.setCaps(topic, true);
        }
    }

    setCaps(topic, selected) {
        topic.selected = selected;
        topic.recentCap = selected ? LIMITS.recentSelected : LIMITS.recent;
        topic.series?.setCap(selected ? LIMITS.pointsSelected : LIMITS.points);
        while (topic.recent.length > topic.recentCap) {
            this.forgetOldest(topic);
        }
    }
}
