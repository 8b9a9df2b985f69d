// app.js: puts the page together: log in, connection state, subscription, meters, views.
//
//   worker.js  |  remote.js --state, batch-->  app.js  --ingest-->  model.js  <--reads-- topics.js, detail.js
//   (link.js,  |      ^  <--open, subscribe--    |                                                ^
//    mqtt.js)  |      '--publish-- publish.js    '--ask-->  Painter (dom.js), frame by frame -----'
//
// A batch of messages changes the model and asks for a frame; nothing else happens until that frame. So
// thousands of messages a second cost thousands of small updates of memory, and some ten paintings.
//
// Ids and attributes that tests and style sheets may rely on:
//   body[data-page=login|main]  body[data-view=topics|topic|publish|access] (narrow screens, but access on all)
//   #state[data-state=idle|connecting|connected|refused|lost]  #banner #banner-text #retry
//   #meters #meter-rate #meter-bytes #meter-topics  #pause[aria-pressed]  #logout  #views [data-show]
//   #login-form #user #password #more #url #client-id #connect #login-error
//   #sub-form #sub-filter #sub-qos #sub-apply #sub-status[data-state=ok|failed]  #show-user #show-sys
//   #topic-filter #topic-sort #topics #topics [data-topic] (.value, .counts, .when)
//   #topics-note #topics-empty
//   #topic-name #topic-value (#topic-field #topic-last)
//   #stat-count #stat-rate #stat-bytes #stat-time #stat-qos
//   #chart (canvas) #chart-card #chart-field #chart-span #chart-readout
//   #messages li[data-kind=text|json|hex|empty]  #messages-mode
//   #pub-form #pub-topic #pub-payload #pub-qos #pub-retain #pub-send #pub-error
//   #pub-log li[data-state=waiting|sent|acked|failed]
//   #show-access  #access-form #access-topic #access-apply #access-status[data-state=ok|failed]
//   #access-filter #access-count #access-lines #access-empty
//   #access-rows tr[data-state=allowed|denied|report] (.access-time, .access-event ... .access-rule)

import { AccessView } from './access.js';
import { $, Painter, say, setShown, setText } from './dom.js';
import { Detail } from './detail.js';
import * as format from './format.js';
import { filterError } from './filters.js';
import { Model } from './model.js';
import { Publisher } from './publish.js';
import { defaultUrl, randomClientId, Remote, urlError } from './remote.js';
import { TopicList } from './topics.js';

const SYS = '$SYS/#';
const names = {
    idle: 'Not connected',
    connecting: 'Connecting …',
    connected: 'Connected',
    refused: 'Refused',
    lost: 'Lost, reconnecting',
};

const model = new Model();
const painter = new Painter();
const link = new Remote({ state: onState, batch: onBatch });
const list = new TopicList(model, painter, choose);
const detail = new Detail(model, painter);
const publisher = new Publisher(link);
const access = new AccessView(link, painter, (filter) => filter === wanted.filter);

let paused = false;
let missed = 0;
let wanted = { filter: '#', qos: 0 };
let retryAt = 0;
let lostWords = '';
const total = { messages: 0, bytes: 0 };
let meter = { at: performance.now(), messages: 0, bytes: 0 };

// ---- what the connection says

function onState(state, words, at) {
    $('state').dataset.state = state;
    setText($('state'), names[state]);
    $('state').title = words;
    $('connect').disabled = state === 'connecting';
    $('pub-send').disabled = state !== 'connected';
    $('sub-apply').disabled = state !== 'connected';
    retryAt = at;
    lostWords = words;
    paintBanner();
    if (state === 'connected') {
        onConnected();
    } else if (state === 'refused') {
        leave(words);
    } else if (state === 'connecting') {
        say($('login-error'), '');
    }
}

function onConnected() {
    document.body.dataset.page = 'main';
    $('password').value = '';
    document.title = location.hostname + ' · bramble';
    subscribe(wanted.filter, wanted.qos);
    if (list.group === 'sys') {
        link.subscribe(SYS, 0).catch(() => {});
    }
    access.connected();
    painter.ask();
}

function onBatch(batch) {
    total.messages += batch.topics.length + batch.lost;
    total.bytes += batch.received;
    takeAccess(batch);
    if (paused) {
        missed += batch.topics.length + batch.lost;
        return;
    }
    model.lost += batch.lost;
    let from = 0;
    let selected = false;
    batch.topics.forEach((name, i) => {
        if (access.takes(name) && !access.shares(wanted.filter)) {
            from = batch.ends[i];
            return;
        }
        const flags = batch.flags[i];
        const packet = { qos: flags & 3, retain: (flags & 4) !== 0, dup: (flags & 8) !== 0 };
        const topic = model.ingest(
            name,
            batch.block.subarray(from, batch.ends[i]),
            packet,
            batch.times[i],
            batch.sizes[i],
        );
        from = batch.ends[i];
        selected ||= topic !== null && topic === model.selected;
    });
    painter.ask('list');
    if (selected) {
        painter.ask('head');
        painter.ask('chart');
        painter.ask('messages');
    }
}

// Lines of the access log are kept while the page is paused, too.
function takeAccess(batch) {
    let from = 0;
    batch.topics.forEach((name, i) => {
        if (access.takes(name)) {
            access.log.message(batch.block.subarray(from, batch.ends[i]));
        }
        from = batch.ends[i];
    });
    if (!paused && document.body.dataset.view === 'access') {
        painter.ask('access');
    }
}

function paintBanner() {
    const lost =
        link.state === 'lost' || (link.state === 'connecting' && document.body.dataset.page === 'main');
    setShown($('banner'), lost);
    if (lost) {
        const wait = Math.ceil((retryAt - Date.now()) / 1000);
        setText(
            $('banner-text'),
            lostWords +
                (link.state === 'lost' ? ' Trying again ' + (wait > 0 ? 'in ' + wait + ' s.' : 'now.') : ''),
        );
        $('retry').disabled = link.state !== 'lost';
    }
}

// ---- log in and out

function logIn(event) {
    event.preventDefault();
    const url = $('url').value.trim();
    const problem =
        urlError(url, location) ||
        ($('password').value && !$('user').value ? 'A password needs a user name.' : '');
    say($('login-error'), problem);
    if (problem) {
        $('more').open ||= urlError(url, location) !== '';
        return;
    }
    link.open({
        url,
        user: $('user').value,
        password: $('password').value,
        clientId: $('client-id').value.trim() || randomClientId(),
    });
}

// Back to the log-in form, with the reason why; nothing of the session stays behind.
function leave(words) {
    document.body.dataset.page = 'login';
    document.title = 'bramble';
    model.clear();
    publisher.clear();
    access.clear();
    setPaused(false);
    show('topics');
    list.show({ group: 'user' });
    markGroup();
    detail.select();
    say($('sub-status'), '');
    say($('login-error'), words);
    ($('user').value && words ? $('password') : $('user')).focus();
}

function logOut() {
    link.close();
    $('password').value = '';
    leave('');
}

// ---- subscription

async function subscribe(filter, qos) {
    const problem = filterError(filter);
    $('sub-filter').setAttribute('aria-invalid', problem !== '');
    sayStatus(problem, 'failed');
    if (problem) {
        return;
    }
    const before = wanted;
    wanted = { filter, qos };
    try {
        if (before.filter !== filter) {
            if (!access.takes(before.filter)) {
                await link.unsubscribe(before.filter); // first: what was under way has then arrived
            }
            model.clear(true);
            detail.select();
            painter.ask();
        }
        const granted = await link.subscribe(filter, qos);
        sayStatus(granted < qos ? 'Granted at QoS ' + granted + ' only.' : '', 'ok');
    } catch (err) {
        if (link.state === 'connected') {
            sayStatus(format.printable(filter) + ': ' + err.message, 'failed');
        }
    }
}

function sayStatus(words, state) {
    $('sub-status').dataset.state = state;
    say($('sub-status'), words);
}

// The broker's own topics are asked for when somebody looks at them.
function showGroup(group) {
    list.show({ group });
    markGroup();
    if (group === 'sys') {
        link.subscribe(SYS, 0).catch((err) => sayStatus(SYS + ': ' + err.message, 'failed'));
    }
}

function markGroup() {
    $('show-user').setAttribute('aria-pressed', list.group === 'user');
    $('show-sys').setAttribute('aria-pressed', list.group === 'sys');
}

// ---- selection, views, pause

function choose(topic, open) {
    if (model.selected !== topic) {
        model.select(topic);
        detail.select();
        publisher.offer(topic.name);
    }
    if (open) {
        show('topic');
    }
    painter.ask('list', true);
}

function show(view) {
    document.body.dataset.view = view;
    for (const button of document.querySelectorAll('#views [data-show]')) {
        button.setAttribute('aria-current', button.dataset.show === view);
    }
    $('show-access').setAttribute('aria-pressed', view === 'access');
    if (view === 'access') {
        access.open();
    }
    painter.ask();
}

function setPaused(on) {
    paused = on;
    missed = 0;
    $('pause').setAttribute('aria-pressed', on);
    paintPause();
}

function paintPause() {
    setText($('pause'), paused ? 'Resume' : 'Pause');
    $('pause').title = paused
        ? format.counted(missed) + ' messages arrived meanwhile and are not shown'
        : 'Freeze what is shown; messages that arrive meanwhile are only counted';
}

function paintAccess() {
    if (document.body.dataset.view === 'access') {
        access.paint(paused);
    }
}

function paintMeters() {
    const at = performance.now();
    const seconds = (at - meter.at) / 1000;
    if (seconds >= 0.9) {
        setText(
            $('meter-rate'),
            format.counted(Math.round((total.messages - meter.messages) / seconds)) + '/s',
        );
        setText($('meter-bytes'), format.bytes(Math.round((total.bytes - meter.bytes) / seconds)) + '/s');
        meter = { at, ...total };
    }
    setText($('meter-topics'), format.counted(model.groups.user.size));
    paintBanner();
    paintPause();
}

// ---- start

const wall = () => performance.timeOrigin + performance.now();
let frozenAt = 0;
// While paused, "how long ago" stands still too.
const shownTime = () => (paused ? frozenAt : wall());

painter.add('list', 100, () => list.paint(shownTime()));
painter.add('head', 100, () => detail.paintHead(shownTime()));
painter.add('chart', 120, () => detail.paintChart(shownTime()));
painter.add('messages', 250, () => detail.paintMessages());
painter.add('access', 250, paintAccess);
painter.add('meters', 250, paintMeters);
setInterval(() => {
    if (document.body.dataset.page === 'main') {
        painter.ask();
    }
}, 1000);

$('url').value = defaultUrl(location);
$('login-form').addEventListener('submit', logIn);
$('logout').addEventListener('click', logOut);
$('retry').addEventListener('click', () => link.retryNow());
$('pause').addEventListener('click', () => {
    frozenAt = wall();
    setPaused(!paused);
    painter.ask();
});
$('sub-form').addEventListener('submit', (e) => {
    e.preventDefault();
    subscribe($('sub-filter').value.trim(), Number($('sub-qos').value));
});
$('show-user').addEventListener('click', () => showGroup('user'));
$('show-sys').addEventListener('click', () => showGroup('sys'));
$('topic-filter').addEventListener('input', (e) => list.show({ search: e.target.value }));
$('topic-sort').addEventListener('change', (e) => list.show({ sort: e.target.value }));
for (const button of document.querySelectorAll('#views [data-show]')) {
    button.addEventListener('click', () => show(button.dataset.show));
}
$('show-access').addEventListener('click', () =>
    show(document.body.dataset.view === 'access' ? 'topics' : 'access'),
);
addEventListener('online', () => link.retryNow());
addEventListener('pageshow', (e) => e.persisted && location.reload());
$('user').focus();
