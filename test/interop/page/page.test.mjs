// page.test.mjs: the dashboard in a real Chromium, against a running broker, with mqtt.js as the other
// client.
//
//   other client --publish--> broker --> page (Chromium)      seen in the list, charted, shown as what it is
//   other client <----------- broker <-- page                 published from the box, confirmed, delivered
//
// Environment:
//   PAGE_URL       address of the page, for example https://localhost:8884/
//   PAGE_USER, PAGE_PASSWORD   a user who may read and write page-test/#
//   BROKER_URL     the other client's address (mqtt, mqtts, ws or wss); default: the page's own /mqtt
//   PAGE_CA        PEM file of the CA, for https: node verifies the certificate with it, and the browser is
//                  then told to accept exactly that server key
//   BLIND_USER, BLIND_PASSWORD   a user who may not read client/accessLog: then the page's access log is tested and
//                  nothing else; PAGE_USER may read it, and may not publish to page-test/denied/#
//   CHROMIUM       the browser; default /usr/bin/chromium
//   SHOTS          a folder for screenshots, if wanted
//
// Prints a line per check and at the end "N passed, N failed"; exits 1 when one failed.

import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import mqtt from 'mqtt';
import { chromium } from 'playwright-core';

const { PAGE_URL, PAGE_USER, PAGE_PASSWORD, PAGE_CA, SHOTS } = process.env;
if (!PAGE_URL || !PAGE_USER || !PAGE_PASSWORD) {
    console.error('page.test.mjs: set PAGE_URL, PAGE_USER and PAGE_PASSWORD.');
    process.exit(2);
}
const pageUrl = new URL(PAGE_URL);
const secure = pageUrl.protocol === 'https:';
const wsUrl = (secure ? 'wss://' : 'ws://') + pageUrl.host + '/mqtt';
const ca = PAGE_CA ? readFileSync(PAGE_CA) : undefined;
const run = Math.random().toString(36).slice(2, 8);
const root = 'page-test/' + run;
const WAIT = 20000;

const results = { passed: 0, failed: 0 };
let stopped = false;

// A check with `must` is one that the others build on: when it fails, they are not tried.
async function check(name, act, must = false) {
    if (stopped) {
        return;
    }
    let timer;
    try {
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error('took longer than two minutes')), 120000);
        });
        await Promise.race([act(), late]);
        results.passed++;
        console.log('ok   ' + name);
    } catch (err) {
        results.failed++;
        stopped ||= must;
        console.log(
            'FAIL ' + name + '\n     ' + String(err.message).split('\n').slice(0, 12).join('\n     '),
        );
    } finally {
        clearTimeout(timer);
    }
}

// The certificate is verified here, by the CA; the browser is told to trust this one key and no other.
async function browserFlags() {
    const flags = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
    ];
    if (secure && ca) {
        const host = pageUrl.hostname.replace(/[[\]]/g, '');
        const socket = tls.connect({
            host,
            port: Number(pageUrl.port || 443),
            ca,
            servername: /^[\d.:]+$/.test(host) ? '' : host,
        });
        await once(socket, 'secureConnect');
        const spki = new X509Certificate(socket.getPeerCertificate().raw).publicKey.export({
            type: 'spki',
            format: 'der',
        });
        socket.destroy();
        flags.push(
            '--ignore-certificate-errors-spki-list=' + createHash('sha256').update(spki).digest('base64'),
        );
    }
    return flags;
}

// What the page complained about; nothing is expected.
function watch(page, complaints) {
    page.on('pageerror', (err) => complaints.push('exception: ' + err.message));
    page.on('console', (m) => {
        if (m.type() === 'error' || m.type() === 'warning') {
            complaints.push(m.type() + ': ' + m.text());
        }
    });
    page.on('dialog', (dialog) => {
        complaints.push('dialog: ' + dialog.message());
        dialog.dismiss();
    });
}

async function logIn(page, password = PAGE_PASSWORD, user = PAGE_USER) {
    await page.fill('#user', user);
    await page.fill('#password', password);
    await page.click('#connect');
}

const connected = (page) => page.waitForSelector('#state[data-state=connected]');
const row = (name) => '#topics [data-topic=' + JSON.stringify(name) + ']';

async function until(what, probe) {
    const end = Date.now() + WAIT;
    let last;
    while (Date.now() < end) {
        last = await probe();
        if (last === true) {
            return;
        }
        await new Promise((done) => setTimeout(done, 50));
    }
    assert.fail(what + '; last seen: ' + JSON.stringify(last));
}

const valueIs = (page, name, text) =>
    until(name + ' shows ' + text, async () => {
        const seen = await page.locator(row(name) + ' .value').allTextContents();
        return seen[0] === text || seen;
    });

async function shot(page, name) {
    if (SHOTS) {
        await page.screenshot({ path: SHOTS + '/' + name + '.png' });
    }
}

async function noSidewaysScroll(page, what) {
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= screen, what + ' is ' + wide + ' px wide on a screen of ' + screen);
    const out = await page.evaluate(() =>
        [...document.querySelectorAll('button, input, select, textarea, #state')]
            .filter((n) => n.checkVisibility() && n.getBoundingClientRect().width > 1)
            .filter(
                (n) =>
                    n.getBoundingClientRect().right > innerWidth + 0.5 ||
                    n.getBoundingClientRect().left < -0.5,
            )
            .map((n) => n.id),
    );
    assert.deepEqual(out, [], what + ': out of sight');
}

// ---- the checks

async function desktop(browser, other, complaints) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT);
    watch(page, complaints);
    const filterTo = async (text) => {
        await page.fill('#topic-filter', text);
    };

    await check(
        'the page loads and is not connected',
        async () => {
            const answer = await page.goto(PAGE_URL);
            assert.equal(answer.status(), 200);
            assert.equal(await page.getAttribute('#state', 'data-state'), 'idle');
            assert.equal(await page.getAttribute('#password', 'autocomplete'), 'current-password');
            assert.equal(await page.inputValue('#url'), wsUrl);
        },
        true,
    );

    await check('a wrong password is refused, and the page says why', async () => {
        await logIn(page, PAGE_PASSWORD + '-wrong');
        await page.waitForSelector('#login-error:not([hidden])');
        assert.match(await page.textContent('#login-error'), /wrong user name or password/i);
        assert.equal(await page.getAttribute('#state', 'data-state'), 'refused');
        assert.equal(await page.getAttribute('body', 'data-page'), 'login');
        await shot(page, 'refused');
    });

    await check(
        'the right password connects, and the field is emptied',
        async () => {
            await logIn(page);
            await connected(page);
            assert.equal(await page.inputValue('#password'), '');
            assert.ok(await page.isVisible('#topics'));
        },
        true,
    );

    await check('a message of another client appears with its value', async () => {
        const name = root + '/temperature';
        await filterTo(run);
        await other.publishAsync(name, '21.5', { qos: 1 });
        await valueIs(page, name, '21.5');
        await other.publishAsync(name, '22.25', { qos: 1 });
        await valueIs(page, name, '22.25');
        assert.match(await page.textContent(row(name) + ' .counts'), /2 msg/);
    });

    await check('selecting it shows chart, figures and messages', async () => {
        await page.click(row(root + '/temperature'));
        assert.equal(await page.textContent('#topic-name'), root + '/temperature');
        await page.waitForSelector('#chart canvas');
        await until('the chart knows both values', async () => {
            const label = await page.getAttribute('#chart', 'aria-label');
            return /^2 values, min 21.5 .* max 22.25, last 22.25/.test(label) || label;
        });
        assert.deepEqual(await page.locator('#messages pre').allTextContents(), ['22.25', '21.5']);
        await shot(page, 'desktop');
    });

    await check('JSON: a field to chart can be chosen, the payload is laid out', async () => {
        const name = root + '/json';
        for (const power of [10, 20, 30]) {
            await other.publishAsync(name, JSON.stringify({ ts: 1, power, deep: { volts: power * 2 } }), {
                qos: 1,
            });
        }
        await page.click(row(name));
        await until('the first field is not the time stamp', async () => {
            const fields = await page.locator('#chart-field option').allTextContents();
            return (
                (JSON.stringify(fields) === '["ts","power","deep.volts"]' &&
                    (await page.textContent('#topic-field')) === 'power') ||
                fields
            );
        });
        await page.selectOption('#chart-field', { label: 'deep.volts' });
        await until('the chart shows the other field', async () => {
            const label = await page.getAttribute('#chart', 'aria-label');
            return /max 60, last 60/.test(label) || label;
        });
        assert.match(await page.locator('#messages pre').first().textContent(), /^\{\n {2}"ts": 1,\n/);
    });

    await check('binary is shown as hex, a retained message is marked', async () => {
        const name = root + '/binary';
        await other.publishAsync(name, Buffer.from([0, 255, 16, 128]), { qos: 1 });
        await valueIs(page, name, 'hex 00 ff 10 80');
        const kept = root + '/kept';
        await other.publishAsync(kept, 'kept', { qos: 1, retain: true });
        await page.fill('#sub-filter', root + '/#');
        await page.click('#sub-apply');
        await until('the mark R of ' + kept, async () =>
            (await page.locator(row(kept) + ' .badge:visible').allTextContents()).includes('R'),
        );
        await other.publishAsync(kept, '', { qos: 1, retain: true });
    });

    await check('hostile topics and payloads stay text', async () => {
        const payload = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>';
        const name = root + '/<img src=x onerror=window.owned=1>\u202e';
        await other.publishAsync(name, payload, { qos: 1 });
        await other.publishAsync(
            root + '/hostile',
            JSON.stringify({ [payload]: 1, __proto__x: 2, constructor: 3 }),
            { qos: 1 },
        );
        await valueIs(page, name, payload);
        assert.match(await page.textContent(row(name) + ' .name'), /\\u202e$/);
        await page.click(row(name));
        assert.equal(await page.locator('#messages pre').first().textContent(), payload);
        await page.click(row(root + '/hostile'));
        await until('the hostile field is offered as text', async () =>
            (await page.locator('#chart-field option').allTextContents()).includes(payload),
        );
        assert.equal(await page.locator('img, main script').count(), 0);
        assert.equal(await page.evaluate(() => window.owned), undefined);
    });

    await check('publish from the page: QoS 0, 1 and 2 arrive and are confirmed', async () => {
        const name = root + '/from-page';
        await other.subscribeAsync(name, { qos: 2 });
        for (const [qos, state] of [
            [0, 'sent'],
            [1, 'acked'],
            [2, 'acked'],
        ]) {
            const text = 'grüße ' + qos;
            const arrived = new Promise((done) => other.once('message', (...what) => done(what)));
            await page.fill('#pub-topic', name);
            await page.fill('#pub-payload', text);
            await page.selectOption('#pub-qos', String(qos));
            await page.click('#pub-send');
            const [topic, payload, packet] = await arrived;
            assert.deepEqual([topic, payload.toString(), packet.qos], [name, text, qos]);
            await page.waitForSelector('#pub-log li:first-child[data-state=' + state + ']');
        }
        await page.fill('#pub-topic', 'a/+/b');
        await page.click('#pub-send');
        assert.match(await page.textContent('#pub-error'), /must not hold/);
        await shot(page, 'published');
    });

    await check('many topics: only the rows in sight exist, and arrow keys move', async () => {
        await Promise.all(
            Array.from({ length: 400 }, (_, i) =>
                other.publishAsync(root + '/many/' + i, String(i), { qos: 1 }),
            ),
        );
        await filterTo('many/');
        await until('400 topics', async () => {
            const size = await page
                .locator('#topics [data-topic]')
                .first()
                .getAttribute('aria-setsize')
                .catch(() => '');
            return size === '400' || size;
        });
        assert.ok((await page.locator('#topics [data-topic]').count()) < 60);
        await page.click(row(root + '/many/0'));
        await page.focus('#topics');
        await page.keyboard.press('ArrowDown');
        assert.equal(await page.textContent('#topic-name'), root + '/many/1');
        await page.keyboard.press('End');
        assert.equal(await page.textContent('#topic-name'), root + '/many/399');
        await page.waitForSelector(row(root + '/many/399') + '[aria-selected=true]');
    });

    await check('pause freezes, resume goes on', async () => {
        const name = root + '/temperature';
        await filterTo('temperature');
        await page.click('#pause');
        await other.publishAsync(name, '99', { qos: 1 });
        await until('the missed message is counted', async () =>
            /^1 messages/.test(await page.getAttribute('#pause', 'title')),
        );
        assert.equal(
            await page.locator(row(name) + ' .value').count(),
            0,
            'the subscription was renewed and nothing came since',
        );
        await page.click('#pause');
        await other.publishAsync(name, '100', { qos: 1 });
        await valueIs(page, name, '100');
    });

    await check('log out leaves nothing behind', async () => {
        await page.click('#logout');
        assert.equal(await page.getAttribute('#state', 'data-state'), 'idle');
        assert.equal(await page.locator('#topics [data-topic]').count(), 0);
        assert.deepEqual(
            await page.evaluate(() => [
                localStorage.length,
                sessionStorage.length,
                document.cookie,
                document.getElementById('password').value,
            ]),
            [0, 0, '', ''],
        );
    });
    await context.close();
}

async function phone(browser, other, complaints) {
    const context = await browser.newContext({
        viewport: { width: 360, height: 740 },
        isMobile: true,
        hasTouch: true,
        deviceScaleFactor: 2,
        colorScheme: 'dark',
    });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT);
    watch(page, complaints);
    await check('phone of 360 px: nothing is cut off, in no view', async () => {
        await page.goto(PAGE_URL);
        await page.click('#more summary');
        await noSidewaysScroll(page, 'log in');
        await logIn(page);
        await connected(page);
        const name = root + '/a/long/way/down/to/a/sensor/that/nobody/can/find/temperature';
        await page.fill('#topic-filter', run);
        await other.publishAsync(name, JSON.stringify({ temperature: 20.5, text: 'x'.repeat(500) }), {
            qos: 1,
        });
        await page.waitForSelector(row(name));
        await noSidewaysScroll(page, 'topics');
        await shot(page, 'phone-topics');
        await page.tap(row(name));
        await page.waitForSelector('#chart canvas');
        assert.equal(await page.isVisible('#topics'), false);
        await noSidewaysScroll(page, 'values');
        await shot(page, 'phone-values');
        await page.tap('#views [data-show=publish]');
        assert.equal(await page.inputValue('#pub-topic'), name);
        await page.tap('#pub-send');
        await page.waitForSelector('#pub-log li[data-state=acked]');
        await noSidewaysScroll(page, 'publish');
        await shot(page, 'phone-publish');
    });
    await context.close();
}

const lines = '#access-rows tr';
const lineWith = (text) => lines + ':has(td:text-is(' + JSON.stringify(text) + '))';

async function accessLog(browser, other, complaints) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT);
    watch(page, complaints);
    const denied = 'page-test/denied/' + run;
    await check(
        'the access log is opened from the bar, and shows what is denied at once',
        async () => {
            await page.goto(PAGE_URL);
            await logIn(page);
            await connected(page);
            await page.click('#show-access');
            assert.equal(await page.isVisible('#topics'), false);
            await until('the view is subscribed', async () => {
                await other.publishAsync(denied, 'secret payload', { qos: 1 });
                return (await page.locator(lines).count()) > 0;
            });
            const row = page.locator(lineWith(denied + ' (QoS 1)')).first();
            assert.equal(await row.getAttribute('data-state'), 'denied');
            assert.equal(await row.locator('.access-event').textContent(), 'publish denied');
            assert.equal(await row.locator('.access-client').textContent(), 'page-test-' + run);
            assert.equal(await row.locator('.access-user').textContent(), PAGE_USER);
            assert.match(await row.locator('.access-address').textContent(), /^127\.0\.0\.1:\d+$/);
            assert.match(await row.locator('.access-rule').textContent(), /acl:\d+$/);
            assert.doesNotMatch(await page.textContent('#access-rows'), /secret/);
            await shot(page, 'access');
        },
        true,
    );
    await check('who comes and goes is shown, newest first; strange names stay text', async () => {
        const name = '<img src=x onerror=window.owned=1>\u202e' + run;
        const guest = await mqtt.connectAsync(process.env.BROKER_URL || wsUrl, {
            username: PAGE_USER,
            password: PAGE_PASSWORD,
            clientId: name,
            protocolVersion: 4,
            ca,
        });
        await guest.endAsync();
        const shown = name.replace('\u202e', '\\u202e');
        await until('both lines', async () => (await page.locator(lineWith(shown)).count()) === 2);
        assert.deepEqual(await page.locator(lineWith(shown) + ' .access-event').allTextContents(), [
            'disconnect',
            'connect',
        ]);
        assert.equal(await page.locator('img').count(), 0);
        assert.equal(await page.evaluate(() => window.owned), undefined);
    });
    await check('a text filters the lines', async () => {
        await page.fill('#access-filter', 'REFUSED');
        await mqtt
            .connectAsync(process.env.BROKER_URL || wsUrl, {
                username: PAGE_USER,
                password: PAGE_PASSWORD + '-wrong',
                clientId: 'guess-' + run,
                protocolVersion: 4,
                reconnectPeriod: 0,
                ca,
            })
            .then(
                () => assert.fail('let in'),
                () => {},
            );
        const visible = page.locator(lines + ':visible');
        await until('one line', async () => (await visible.count()) === 1);
        assert.equal(await visible.locator('.access-client').textContent(), 'guess-' + run);
        assert.match(await page.textContent('#access-count'), /^1 of \d+ lines$/);
        await page.fill('#access-filter', 'nothing has this');
        await page.waitForSelector('#access-empty:visible');
        await page.fill('#access-filter', '');
    });
    await check('paused, lines are kept and shown later; no more than 500 are', async () => {
        await page.click('#pause');
        const before = await page.locator(lines).count();
        await Promise.all(
            Array.from({ length: 700 }, (_, i) => other.publishAsync(denied + '/' + i, 'x', { qos: 1 })),
        );
        await until('the pause counts them', async () => {
            const title = await page.getAttribute('#pause', 'title');
            return parseInt(title.replace(',', ''), 10) >= 700 || title;
        });
        assert.equal(await page.locator(lines).count(), before);
        await page.click('#pause');
        await until('the last one is on top', async () =>
            (await page.locator(lines).first().textContent()).includes(denied + '/699'),
        );
        assert.equal(await page.locator(lines).count(), 500);
        assert.match(await page.textContent('#access-count'), /^500 lines, the last of /);
    });
    await check('another topic, and back; what is no line is counted', async () => {
        const topic = root + '/no-log';
        await page.fill('#access-topic', 'a/+');
        await page.click('#access-apply');
        assert.match(await page.textContent('#access-status'), /must not hold/);
        await page.fill('#access-topic', topic);
        await page.click('#access-apply');
        await page.waitForSelector('#access-empty:visible');
        await until('it is counted', async () => {
            await other.publishAsync(topic, 'no line at all', { qos: 1 });
            return /messages were no lines/.test(await page.textContent('#access-count'));
        });
        await page.click('#show-access');
        assert.ok(await page.isVisible('#topics'));
    });
    await check('who may not read it is told what the broker needs', async () => {
        await page.click('#logout');
        assert.equal(await page.locator(lines).count(), 0);
        await logIn(page, process.env.BLIND_PASSWORD, process.env.BLIND_USER);
        await connected(page);
        await page.click('#show-access');
        await page.fill('#access-topic', 'client/accessLog');
        await page.click('#access-apply');
        await page.waitForSelector('#access-status[data-state=failed]:visible');
        assert.match(
            await page.textContent('#access-status'),
            /does not allow this .*access_log_topic client\/accessLog.*topic read client\/accessLog/,
        );
        await shot(page, 'access-refused');
    });
    await context.close();
    await check('on a phone the lines are cards; keys reach and scroll them', async () => {
        const small = await browser.newContext({ viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
        const phonePage = await small.newPage();
        phonePage.setDefaultTimeout(WAIT);
        watch(phonePage, complaints);
        await phonePage.goto(PAGE_URL);
        await logIn(phonePage);
        await connected(phonePage);
        await phonePage.click('#views [data-show=access]');
        await until('some lines', async () => {
            await other.publishAsync(denied + '/' + 'long/'.repeat(100), 'x', { qos: 1 });
            return (await phonePage.locator(lines).count()) > 10;
        });
        await noSidewaysScroll(phonePage, 'access');
        await phonePage.focus('#access-filter');
        await phonePage.keyboard.press('Tab');
        assert.equal(await phonePage.evaluate(() => document.activeElement.id), 'access-lines');
        await phonePage.keyboard.press('End');
        await until('it has scrolled', () =>
            phonePage.evaluate(() => document.getElementById('access-lines').scrollTop > 100),
        );
        await shot(phonePage, 'phone-access');
        await small.close();
    });
}

// A forwarder between page and server that can cut what goes through it; TLS passes unseen.
async function forwarder() {
    const sockets = new Set();
    const server = net.createServer((near) => {
        const far = net.connect({
            host: pageUrl.hostname.replace(/[[\]]/g, ''),
            port: Number(pageUrl.port || (secure ? 443 : 80)),
        });
        for (const [from, to] of [
            [near, far],
            [far, near],
        ]) {
            sockets.add(from);
            from.pipe(to);
            from.on('error', () => to.destroy());
            from.on('close', () => to.destroy());
        }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const cutAll = () => sockets.forEach((s) => s.destroy());
    return {
        port: server.address().port,
        cutAll,
        stop: () => {
            server.close();
            cutAll();
        },
    };
}

// The connection is cut between page and broker; the page must say so and come back by itself.
async function cut(browser, other) {
    const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT);
    const way = await forwarder();
    const address = new URL(pageUrl);
    address.port = String(way.port);
    address.hostname = pageUrl.hostname === '[::1]' ? '127.0.0.1' : pageUrl.hostname;
    await check('a lost connection is said, and made again', async () => {
        await page.goto(address.href);
        await logIn(page);
        await connected(page);
        way.cutAll();
        await page.waitForSelector('#state[data-state=lost]');
        assert.match(await page.textContent('#banner-text'), /lost.*trying again/i);
        await connected(page);
        await page.fill('#topic-filter', 'again');
        await other.publishAsync(root + '/again', 'back', { qos: 1 });
        await valueIs(page, root + '/again', 'back');
    });
    way.stop();
    await check('a broker that does not answer is said', async () => {
        await page.click('#logout');
        await page.click('#more summary');
        await page.fill('#url', (secure ? 'wss' : 'ws') + '://127.0.0.1:9/nothing');
        await logIn(page);
        await page.waitForSelector('#login-error:not([hidden])');
        assert.match(await page.textContent('#login-error'), /No answer from 127\.0\.0\.1:9/);
    });
    await context.close();
}

const complaints = [];
let other = null;
let browser = null;
try {
    other = await mqtt.connectAsync(process.env.BROKER_URL || wsUrl, {
        username: PAGE_USER,
        password: PAGE_PASSWORD,
        clientId: 'page-test-' + run,
        ca,
        protocolVersion: 4,
        reconnectPeriod: 0,
    });
    browser = await chromium.launch({
        executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
        args: await browserFlags(),
    });
    if (process.env.BLIND_USER) {
        await accessLog(browser, other, complaints);
    } else {
        await desktop(browser, other, complaints);
        await phone(browser, other, complaints);
        await cut(browser, other);
    }
    await check('the console stayed clean', async () => assert.deepEqual(complaints, []));
} catch (err) {
    results.failed++;
    console.log('FAIL the test itself\n     ' + String(err.stack).split('\n').slice(0, 12).join('\n     '));
} finally {
    await browser?.close();
    await other?.endAsync(true);
}
console.log(results.passed + ' passed, ' + results.failed + ' failed');
process.exit(results.failed > 0 ? 1 : 0);
