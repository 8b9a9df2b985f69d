// mqttjs.mjs URL [CA]: mqtt.js against a running broker, over whatever the URL says. Prints "ok" and exits 0, or says what
// was wrong and exits 1.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import mqtt from 'mqtt';

const [url, caFile] = process.argv.slice(2);
const ca = caFile ? readFileSync(caFile) : undefined;
const late = setTimeout(() => {
    console.error('it took longer than a minute');
    process.exit(1);
}, 60000);

const connect = (clientId, options) => mqtt.connectAsync(url, { clientId, ca, protocolVersion: 4, reconnectPeriod: 50, ...options });

// Collects what comes; take(n) waits for n messages.
function inbox(client) {
    const messages = [];
    client.on('message', (topic, payload, packet) => messages.push({ topic, payload, qos: packet.qos, retain: packet.retain, dup: packet.dup }));
    return async (n) => {
        while (messages.length < n) {
            await once(client, 'message');
        }
        return messages.splice(0, n);
    };
}

async function everyQos() {
    const reader = await connect('reader'), writer = await connect('writer');
    const take = inbox(reader);
    assert.deepEqual((await reader.subscribeAsync('js/#', { qos: 2 })).map((g) => g.qos), [2]);
    for (const qos of [0, 1, 2]) {
        await Promise.all(Array.from({ length: 200 }, (_, i) => writer.publishAsync('js/' + qos, String(i), { qos })));
        const got = await take(200);
        assert.deepEqual(got.map((m) => Number(m.payload)), Array.from({ length: 200 }, (_, i) => i));
        assert.ok(got.every((m) => m.qos === qos && m.topic === 'js/' + qos && !m.retain && !m.dup));
    }
    const large = Buffer.alloc(1 << 20, 'large');
    await writer.publishAsync('js/large', large, { qos: 1 });
    assert.ok((await take(1))[0].payload.equals(large));
    await writer.endAsync();
    await reader.endAsync();
}

async function retainedAndWill() {
    const writer = await connect('writer', { will: { topic: 'js/will', payload: 'died', qos: 1, retain: true } });
    await writer.publishAsync('js/kept', 'value', { qos: 1, retain: true });
    const reader = await connect('reader');
    const take = inbox(reader);
    await reader.subscribeAsync(['js/kept', 'js/will'], { qos: 1 });
    const [kept] = await take(1);
    assert.deepEqual([kept.topic, String(kept.payload), kept.retain], ['js/kept', 'value', true]);
    writer.options.reconnectPeriod = 0;
    writer.stream.destroy();
    const [will] = await take(1);
    assert.deepEqual([will.topic, String(will.payload), will.retain], ['js/will', 'died', false]);
    for (const topic of ['js/kept', 'js/will']) {
        await reader.publishAsync(topic, '', { qos: 1, retain: true });
    }
    await take(2);
    await reader.endAsync();
    await writer.endAsync(true);
}

// The connection breaks again and again; mqtt.js connects by itself, and the session goes on.
async function brokenConnections() {
    const reader = await connect('kept', { clean: false }), writer = await connect('writer', { clean: false });
    const take = inbox(reader);
    await reader.subscribeAsync('js/broken', { qos: 2 });
    const sent = [];
    for (let i = 0; i < 120; i++) {
        sent.push(writer.publishAsync('js/broken', String(i), { qos: 2 }));
        if (i % 50 === 30) {
            const back = Promise.all([once(reader, 'connect'), once(writer, 'connect')]);
            reader.stream.destroy();
            writer.stream.destroy();
            const [[a], [b]] = await back;
            assert.ok(a.sessionPresent && b.sessionPresent);
        }
    }
    await Promise.all(sent);
    const got = (await take(120)).map((m) => Number(m.payload));
    assert.deepEqual([...got].sort((a, b) => a - b), Array.from({ length: 120 }, (_, i) => i));
    await reader.endAsync();
    await writer.endAsync();
}

async function refusal() {
    await assert.rejects(connect('five', { protocolVersion: 5, reconnectPeriod: 0 }), /protocol version/);
}

try {
    await everyQos();
    await retainedAndWill();
    await brokenConnections();
    await refusal();
    clearTimeout(late);
    console.log('ok');
} catch (err) {
    console.error(err);
    process.exit(1);
}
