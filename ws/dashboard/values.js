// values.js: the page's bounds, and numbers out of payloads: plain ones, with a unit, or a field of JSON. Pure
// functions and one ring; nothing here trusts what it reads.

export const LIMITS = {
    topics: 5000, // in each group
    name: 1024, // characters
    recent: 20, // messages kept of a topic
    recentSelected: 100,
    keep: 16384, // bytes kept of a payload
    bytes: 32 * 1024 * 1024, // of all kept messages
    overhead: 256, // bytes counted for each, payload apart
    points: 256, // of a topic's series
    pointsSelected: 4000,
    fields: 64, // offered of one JSON payload
    depth: 6, // levels looked into
    jsonEvery: 100, // ms between two JSON payloads read of a topic that is not selected
};

const numeric = /^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\s*[%°][A-Za-z]?|\s+[^\s\d]{1,12})?\s*$/;
const words = new Map([
    ['true', 1],
    ['on', 1],
    ['false', 0],
    ['off', 0],
]);

// A ring of (time, value) that grows by doubling up to its cap.
export class Series {
    constructor(cap) {
        this.cap = cap;
        this.length = 0;
        this.start = 0;
        this.times = new Float64Array(16);
        this.values = new Float64Array(16);
    }

    push(time, value) {
        if (this.length === this.times.length && this.length < this.cap) {
            this.resize(Math.min(this.cap, this.length * 2));
        }
        const room = this.times.length;
        const at = (this.start + this.length) % room;
        this.times[at] = time;
        this.values[at] = value;
        if (this.length < room) {
            this.length++;
        } else {
            this.start = (this.start + 1) % room;
        }
    }

    // A smaller cap gives memory back and keeps the newest points.
    setCap(cap) {
        this.cap = cap;
        if (this.times.length > cap) {
            this.resize(cap);
        }
    }

    resize(room) {
        const [times, values] = this.last(room);
        this.times = new Float64Array(room);
        this.values = new Float64Array(room);
        this.times.set(times);
        this.values.set(values);
        this.start = 0;
        this.length = times.length;
    }

    // The newest n points since `since`, oldest first: [times, values].
    last(n, since = -Infinity) {
        const times = [];
        const values = [];
        const room = this.times.length;
        for (let i = Math.max(0, this.length - n); i < this.length; i++) {
            const at = (this.start + i) % room;
            if (this.times[at] >= since) {
                times.push(this.times[at]);
                values.push(this.values[at]);
            }
        }
        return [times, values];
    }
}

// A payload that is a number, perhaps with a unit ("21.5", "21.5 °C", "on"), or NaN.
export function parseNumber(payload) {
    if (payload.length === 0 || payload.length > 40) {
        return NaN;
    }
    let text = '';
    for (const byte of payload) {
        text += String.fromCharCode(byte === 0xc2 ? 0x20 : byte);
    }
    const found = numeric.exec(text);
    return found ? Number(found[1]) : (words.get(text.trim().toLowerCase()) ?? NaN);
}

// A payload that is a JSON object or array, or null. Long ones are not looked into.
export function parseJson(payload) {
    const first = payload[0];
    if ((first !== 0x7b && first !== 0x5b) || payload.length > LIMITS.keep) {
        return null;
    }
    try {
        return JSON.parse(new TextDecoder().decode(payload));
    } catch {
        return null;
    }
}

const leafValue = (v) => (typeof v === 'number' ? v : typeof v === 'boolean' ? Number(v) : NaN);

// The numeric leaves of a JSON value, at most LIMITS.fields: [{ label: 'a.b[0]', path: ['a', 'b', 0] }].
export function numericFields(json) {
    const fields = [];
    const walk = (value, path, label) => {
        if (fields.length >= LIMITS.fields || path.length > LIMITS.depth) {
            return;
        }
        if (Number.isFinite(leafValue(value))) {
            fields.push({ label: label || '(value)', path });
        } else if (Array.isArray(value)) {
            value.slice(0, LIMITS.fields).forEach((v, i) => walk(v, [...path, i], label + '[' + i + ']'));
        } else if (value !== null && typeof value === 'object') {
            for (const key of Object.keys(value).slice(0, LIMITS.fields * 2)) {
                walk(value[key], [...path, key], label ? label + '.' + key : key);
            }
        }
    };
    walk(json, [], '');
    return fields;
}

export function fieldValue(json, path) {
    let value = json;
    for (const key of path) {
        if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) {
            return NaN;
        }
        value = value[key];
    }
    return leafValue(value);
}

// What a sensor's message is about is rarely its time stamp or its number.
export function pickField(json) {
    const fields = numericFields(json);
    return (
        fields.find((f) => !/(^|[._])(ts|time|timestamp|date|id|seq|uptime|epoch)$/i.test(f.label)) ??
        fields[0] ??
        null
    );
}
