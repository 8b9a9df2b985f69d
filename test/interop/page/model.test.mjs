// model.test.mjs: the parts of the dashboard that need no browser and no broker: memory bounds, numbers and
// JSON fields, topic filters, text made safe to look at, and the connection's states (with a stand-in for
// mqtt.js). Needs node only. Prints "N passed, N failed"; exits 1 when one failed.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';

const page = '../../../ws/dashboard/';
const { LIMITS, Series, fieldValue, numericFields, parseNumber } = await import(page + 'values.js');
const { Model } = await import(page + 'model.js');
const { filterError, filterMatches, topicError } = await import(page + 'filters.js');
const format = await import(page + 'format.js');
const { AccessLog, KEPT, readLine } = await import(page + 'access.js');
const { Link } = await import(page + 'link.js');
const { defaultUrl, urlError } = await import(page + 'remote.js');

const bytes = (text) => new TextEncoder().encode(text);
const packet = { qos: 0, retain: false, dup: false };
const results = { passed: 0, failed: 0 };

async function check(name, act) {
    try {
        await act();
        results.passed++;
        console.log('ok   ' + name);
    } catch (err) {
        results.failed++;
        console.log('FAIL ' + name + '\n     ' + err.stack);
    }
}

await check('a series grows to its cap, then forgets the oldest, and shrinks to the newest', () => {
    const series = new Series(100);
    for (let i = 0; i < 250; i++) {
        series.push(i, i * 2);
    }
    assert.equal(series.length, 100);
    assert.deepEqual(series.last(2), [
        [248, 249],
        [496, 498],
    ]);
    assert.equal(series.last(Infinity)[0][0], 150);
    assert.deepEqual(series.last(Infinity, 248)[0], [248, 249]);
    series.setCap(10);
    assert.equal(series.times.length, 10);
    series.push(250, 500);
    assert.deepEqual(series.last(Infinity)[0], [241, 242, 243, 244, 245, 246, 247, 248, 249, 250]);
});

await check('numbers: plain, with a unit, words; dates, ids and text are none', () => {
    const of = (text) => parseNumber(bytes(text));
    assert.deepEqual(
        ['21.5', ' -3e2 ', '.5', '47 %', '47%', '21.5 °C', '12 seconds', 'on', 'FALSE'].map(of),
        [21.5, -300, 0.5, 47, 47, 21.5, 12, 1, 0],
    );
    for (const text of ['', 'abc', '2024-01-01', '12ab', '1.2.3', '0x10', 'NaN', '1 2', '9'.repeat(60)]) {
        assert.ok(Number.isNaN(of(text)), text);
    }
});

await check('JSON fields: nested, bounded in number and depth, no way to a prototype', () => {
    const fields = numericFields({ a: 1, b: { c: [true, 'x', 2] }, text: 'no' });
    assert.deepEqual(
        fields.map((f) => f.label),
        ['a', 'b.c[0]', 'b.c[2]'],
    );
    assert.equal(fieldValue({ b: { c: [true, 'x', 2] } }, fields[2].path), 2);
    assert.ok(Number.isNaN(fieldValue({}, ['constructor', 'length'])));
    assert.ok(Number.isNaN(fieldValue({ a: null }, ['a', 'b'])));
    let deep = 1;
    for (let i = 0; i < 5000; i++) {
        deep = [deep];
    }
    assert.deepEqual(numericFields(deep), []);
    assert.equal(numericFields(Array.from({ length: 10000 }, (_, i) => i)).length, LIMITS.fields);
});

await check('the number of topics is bounded; what is not kept is counted', () => {
    const model = new Model();
    for (let i = 0; i < LIMITS.topics + 7; i++) {
        model.ingest('t/' + i, bytes('1'), packet, i);
    }
    assert.equal(model.groups.user.size, LIMITS.topics);
    assert.equal(model.notKept, 7);
    model.ingest('x'.repeat(LIMITS.name + 1), bytes('1'), packet, 0);
    assert.equal(model.notKept, 8);
    model.ingest('$SYS/a', bytes('1'), packet, 0);
    assert.equal(model.groups.sys.size, 1);
});

await check('messages a topic, and the sum of their bytes, are bounded', () => {
    const model = new Model();
    const big = new Uint8Array(100000);
    const topic = model.ingest('big', big, packet, 0);
    assert.equal(topic.last.payload.length, LIMITS.keep);
    assert.equal(topic.last.size, 100000);
    let most = 0;
    for (let i = 0; i < 12000; i++) {
        model.ingest('t/' + (i % LIMITS.topics), big, packet, i);
        most = Math.max(most, model.keptBytes);
    }
    assert.ok(most <= LIMITS.bytes + LIMITS.keep + LIMITS.overhead, String(most));
    let sum = 0;
    for (const t of model.groups.user.values()) {
        assert.ok(t.recent.length >= 1 && t.recent.length <= LIMITS.recent);
        sum += t.recent.reduce((n, m) => n + m.payload.length + LIMITS.overhead, 0);
    }
    assert.equal(model.keptBytes, sum);
});

await check('the selected topic keeps more, and gives it back', () => {
    const model = new Model();
    const topic = model.ingest('a', bytes('1'), packet, 0);
    model.select(topic);
    for (let i = 1; i < 6000; i++) {
        model.ingest('a', bytes(String(i)), packet, i);
    }
    assert.equal(topic.recent.length, LIMITS.recentSelected);
    assert.equal(topic.series.length, LIMITS.pointsSelected);
    model.select(null);
    assert.equal(topic.recent.length, LIMITS.recent);
    assert.equal(topic.series.times.length, LIMITS.points);
});

await check('clearing the topics keeps $SYS, and counts what is left', () => {
    const model = new Model();
    model.select(model.ingest('a', bytes('12345'), packet, 0));
    model.ingest('$SYS/a', bytes('123'), packet, 0);
    model.clear(true);
    assert.equal(model.selected, null);
    assert.equal(model.topic('a'), undefined);
    assert.equal(model.topic('$SYS/a').count, 1);
    assert.equal(model.keptBytes, 3 + LIMITS.overhead);
});

await check("a payload is copied: the library's buffer is not kept alive, nor seen to change", () => {
    const model = new Model();
    const block = bytes('abcdef');
    const topic = model.ingest('a', block.subarray(0, 3), packet, 0);
    block[0] = 0;
    assert.equal(topic.last.payload.buffer.byteLength, 3);
    assert.equal(topic.last.payload[0], 0x61);
});

await check('the rate follows the traffic; retained messages are none', () => {
    const model = new Model();
    let topic;
    for (let i = 0; i < 300; i++) {
        topic = model.ingest('a', bytes('1'), packet, i * 100);
    }
    assert.ok(Math.abs(topic.rate(29900) - 10) < 1.5, String(topic.rate(29900)));
    assert.ok(topic.rate(90000) < 0.01);
    const kept = model.ingest('b', bytes('1'), { ...packet, retain: true }, 0);
    model.ingest('b', bytes('1'), { ...packet, retain: true }, 1);
    assert.equal(kept.rate(1), 0);
});

await check('filters: matching and mistakes', () => {
    const yes = [
        ['#', 'a/b'],
        ['a/#', 'a'],
        ['a/#', 'a/b/c'],
        ['+/b', 'a/b'],
        ['+/b', '/b'],
        ['$SYS/#', '$SYS/x'],
    ];
    const no = [
        ['#', '$SYS/x'],
        ['+/x', '$SYS/x'],
        ['a/+', 'a'],
        ['a/+', 'a/b/c'],
        ['a', 'a/b'],
    ];
    yes.forEach(([f, t]) => assert.ok(filterMatches(f, t), f + ' ' + t));
    no.forEach(([f, t]) => assert.ok(!filterMatches(f, t), f + ' ' + t));
    ['#', 'a/#', '+', 'a/+/b', '$SYS/#'].forEach((f) => assert.equal(filterError(f), ''));
    ['', 'a#', '#/a', 'a/b+', 'a\0'].forEach((f) => assert.notEqual(filterError(f), '', f));
    ['', 'a/+', '#', 'a\0', 'é'.repeat(33000)].forEach((t) => assert.notEqual(topicError(t), ''));
    assert.equal(topicError('a/b'), '');
});

await check('hidden characters are shown, binary is hex, cut UTF-8 is still text', () => {
    assert.equal(format.printable('a\u202eb\u0000\u200b\ufeff'), 'a\\u202eb\\u0000\\u200b\\ufeff');
    const message = (payload, size = payload.length) => ({ payload, size });
    assert.equal(format.preview(message(bytes(''))), '(empty)');
    assert.equal(format.preview(message(Uint8Array.of(0, 255))), 'hex 00 ff');
    assert.equal(format.preview(message(bytes('é'.repeat(500))), 95), 'é'.repeat(95) + '…');
    assert.equal(format.body(message(bytes('{"a":[1]}')), 'auto').text, '{\n  "a": [\n    1\n  ]\n}');
    assert.equal(format.body(message(bytes('{"a":[1]}')), 'text').text, '{"a":[1]}');
    assert.equal(format.body(message(bytes('Hi')), 'hex').text, '0000  48 69                   Hi');
    assert.match(format.body(message(bytes('x'.repeat(9000))), 'auto').text, /… of 8\.8 KB$/);
    assert.match(format.body(message(new Uint8Array(16384), 1000000), 'auto').text, /… of 976\.6 KB$/);
});

await check('addresses: what is wrong with them', () => {
    const http = { protocol: 'http:', host: 'gateway:8080' };
    const https = { protocol: 'https:', host: '[::1]:8884' };
    assert.equal(defaultUrl(https), 'wss://[::1]:8884/mqtt');
    assert.equal(defaultUrl(http), 'ws://gateway:8080/mqtt');
    assert.equal(urlError(defaultUrl(https), https), '');
    ['', 'gateway', 'https://gateway/', 'wss://user:secret@gateway/'].forEach((u) =>
        assert.notEqual(urlError(u, https), '', u),
    );
    assert.match(urlError('ws://gateway/mqtt', https), /wss/);
});

// A stand-in for mqtt.js: the test speaks for the broker.
await check('a line of the access log: every field is text, hidden characters are seen', () => {
    const line = readLine(
        bytes(
            JSON.stringify({
                time: '2026-02-01T00:00:00.007Z',
                event: 'publish',
                allowed: false,
                client: 'c\u202e<b>',
                user: 'Mary',
                address: '10.0.0.7',
                port: 4001,
                listener: '8883',
                tls: 'TLSv1.3',
                topic: 'door',
                qos: 1,
                reason: 'not allowed',
                rule: '/etc/acl:12',
                cut: ['client', 'constructor'],
            }),
        ),
    );
    assert.deepEqual(
        [line.time, line.state, line.badge, line.client, line.address, line.listener, line.topic, line.rule],
        [
            Date.UTC(2026, 1, 1, 0, 0, 0, 7),
            'denied',
            'denied',
            'c\\u202e<b>…',
            '10.0.0.7:4001',
            '8883 · TLSv1.3',
            'door (QoS 1)',
            '/etc/acl:12',
        ],
    );
    assert.ok(line.text.includes('mary') && line.text.includes('denied'));
});

await check('access log: states, reports, and what is no line', () => {
    const of = (line) => readLine(bytes(JSON.stringify(line)));
    assert.equal(of({ event: 'connect', allowed: true }).state, 'allowed');
    assert.equal(of({ event: 'connect', allowed: 'true' }).state, 'denied');
    assert.equal(of({ event: 'connect', allowed: false }).badge, 'refused');
    assert.equal(of({ event: 'disconnect', allowed: false }).state, 'ended');
    assert.equal(of({ event: 'left_out', count: 1200 }).reason, '1,200 left out: access_log_rate was reached');
    assert.equal(of({ event: 'lost', count: '<b>' }).reason, '? lost: the log file took no more');
    assert.equal(of({ event: 'constructor' }).badge, '');
    assert.equal(of({ event: 'x', client: { a: 1 }, user: null, qos: 'x', cut: 7, port: '1' }).client, '');
    for (const none of ['', 'x', 'null', '7', '[]', '"x"', '{}', '{"event":1}', '{"event":"x"']) {
        assert.equal(readLine(bytes(none)), null, none);
    }
    assert.equal(readLine(new Uint8Array([0x22, 0xff, 0x22])), null);
});

await check('the access log keeps the last lines only, and counts all', () => {
    const log = new AccessLog();
    for (let i = 1; i <= KEPT + 20; i++) {
        log.message(bytes(JSON.stringify({ event: 'connect', client: 'c' + i })));
    }
    log.message(bytes('no line'));
    assert.deepEqual([log.lines.length, log.count, log.strange], [KEPT, KEPT + 20, 1]);
    assert.deepEqual([log.lines[0].client, log.lines.at(-1).client], ['c' + (KEPT + 20), 'c21']);
});

class FakeClient extends EventEmitter {
    end() {}
    subscribe(filter, options, done) {
        this.done = done;
    }
    publish(topic, payload, options, done) {
        this.done = done;
    }
}

function fakeLink() {
    const seen = [];
    const clients = [];
    const mqtt = {
        connect: (url, options) => {
            clients.push(new FakeClient());
            clients.at(-1).options = options;
            return clients.at(-1);
        },
    };
    const link = new Link(mqtt, {
        state: (...what) => seen.push(what),
        message: () => seen.push(['message']),
    });
    return { link, seen, clients };
}

const access = { url: 'ws://broker/mqtt', user: 'u', password: 'p', clientId: 'c' };

await check('the link: refused with words, and the password is forgotten', () => {
    const { link, seen, clients } = fakeLink();
    link.open(access);
    clients[0].emit('error', Object.assign(new Error('x'), { code: 4 }));
    clients[0].emit('close');
    assert.deepEqual(seen.at(-1).slice(0, 2), ['refused', 'Wrong user name or password (code 4).']);
    assert.equal(link.access, null);
    link.open(access);
    clients[1].emit('close');
    assert.match(seen.at(-1)[1], /^No answer from broker\./);
});

await check(
    'the link: lost, tried again, refused while trying; a publish under way is not confirmed',
    async () => {
        const { link, seen, clients } = fakeLink();
        link.open(access);
        clients[0].emit('connect');
        const published = link.publish('a', 'b', 1, false);
        clients[0].emit('close');
        await assert.rejects(published, /lost before the broker confirmed/);
        assert.equal(seen.at(-1)[0], 'lost');
        await assert.rejects(link.publish('a', 'b', 1, false), /Not connected/);
        link.retryNow();
        assert.equal(seen.at(-1)[0], 'connecting');
        clients[0].emit('message', 'late', bytes(''), packet);
        assert.ok(!seen.some(([what]) => what === 'message'), 'an old client is not listened to');
        clients[1].emit('error', Object.assign(new Error('x'), { code: 3 }));
        clients[1].emit('close');
        assert.equal(seen.at(-1)[0], 'lost');
        link.retryNow();
        clients[2].emit('error', Object.assign(new Error('x'), { code: 5 }));
        clients[2].emit('close');
        assert.equal(seen.at(-1)[0], 'refused');
        link.close();
        assert.equal(clients.length, 3);
    },
);

await check('the link: a subscription is granted, refused by the broker, or not sent', async () => {
    const { link, clients } = fakeLink();
    link.open(access);
    clients[0].emit('connect');
    const granted = link.subscribe('a', 1);
    clients[0].done(null, [{ topic: 'a', qos: 1 }]);
    assert.equal(await granted, 1);
    // mqtt.js says an error then, and what was asked for as if it had been granted
    const refused = link.subscribe('a', 0);
    const err = Object.assign(new Error('Subscribe error: Unspecified error'), { packet: { granted: [128] } });
    clients[0].done(err, [{ topic: 'a', qos: 0 }]);
    await assert.rejects(refused, /does not allow this subscription/);
    const unsent = link.subscribe('a', 0);
    clients[0].done(new Error('client disconnecting'));
    await assert.rejects(unsent, /client disconnecting/);
    link.close();
});

console.log(results.passed + ' passed, ' + results.failed + ' failed');
process.exit(results.failed > 0 ? 1 : 0);
