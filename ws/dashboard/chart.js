// chart.js: the chart of one topic's numeric values, drawn by uPlot (a global of uPlot.iife.min.js).
//
// Colours come from the style sheet's variables, so that the chart follows dark and light. uPlot styles its
// parts through the CSSOM, which a Content-Security-Policy without 'unsafe-inline' allows.

import { $, setText } from './dom.js';
import * as format from './format.js';

const HEIGHT = 220;

function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A single instant still needs some width to be drawn in.
function timeRange(u, low, high) {
    return low === null
        ? [Date.now() - 60000, Date.now()]
        : high - low < 1000
          ? [low - 500, high + 500]
          : [low, high];
}

// Ticks lie within a rounding error of their second: without the millisecond 12:00:05 might read 12:00:04.
function tick(ms, step) {
    return step < 1000 ? format.timeExact(ms + 0.5) : format.time(ms + 1);
}

export class Chart {
    constructor() {
        this.box = $('chart');
        this.plot = null;
        this.data = [[], []];
        this.summary = '';
        new ResizeObserver(() => this.resize()).observe(this.box);
        matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.rebuild());
    }

    options(width) {
        const axis = {
            stroke: colour('--soft'),
            font: '11px system-ui, sans-serif',
            grid: { stroke: colour('--grid'), width: 1 },
            ticks: { stroke: colour('--grid'), width: 1, size: 4 },
        };
        return {
            width,
            height: HEIGHT,
            ms: 1,
            legend: { show: false },
            cursor: { drag: { x: false, y: false }, points: { size: 7 } },
            scales: { x: { time: true, range: timeRange } },
            axes: [
                {
                    ...axis,
                    space: 62,
                    size: 28,
                    values: (u, ticks, i, space, step) => ticks.map((t) => tick(t, step)),
                },
                { ...axis, size: 54, values: (u, ticks) => ticks.map((t) => format.number(t)) },
            ],
            series: [
                {},
                {
                    stroke: colour('--accent'),
                    fill: colour('--accent-wash'),
                    width: 1.75,
                    points: { size: 5, fill: colour('--accent') },
                },
            ],
            hooks: { setCursor: [(u) => this.readout(u.cursor.idx)] },
        };
    }

    rebuild() {
        this.plot?.destroy();
        this.plot = null;
        this.draw();
    }

    draw() {
        const width = this.box.clientWidth;
        if (width < 40) {
            return;
        }
        if (this.plot === null) {
            this.plot = new uPlot(this.options(width), this.data, this.box);
        } else {
            this.plot.setData(this.data);
        }
    }

    resize() {
        const width = this.box.clientWidth;
        if (this.plot && width >= 40 && width !== this.plot.width) {
            this.plot.setSize({ width, height: HEIGHT });
        } else if (!this.plot && this.data[0].length > 0) {
            this.draw();
        }
    }

    // series: a Series or null; span: seconds back from `now`, 0 for all.
    paint(series, span, now) {
        this.data = series ? series.last(Infinity, span > 0 ? now - span * 1000 : -Infinity) : [[], []];
        this.draw();
        this.sum();
        if (!this.plot || this.plot.cursor.idx === null || this.plot.cursor.idx === undefined) {
            setText($('chart-readout'), this.summary);
        }
    }

    sum() {
        const values = this.data[1];
        let low = Infinity;
        let high = -Infinity;
        let total = 0;
        for (const v of values) {
            low = v < low ? v : low;
            high = v > high ? v : high;
            total += v;
        }
        this.summary =
            values.length === 0
                ? 'no values in this span'
                : 'min ' +
                  format.number(low) +
                  ' · avg ' +
                  format.number(total / values.length) +
                  ' · max ' +
                  format.number(high);
        this.box.setAttribute(
            'aria-label',
            values.length === 0
                ? 'No values in this span'
                : values.length +
                      ' values, ' +
                      this.summary +
                      ', last ' +
                      format.number(values[values.length - 1]),
        );
    }

    readout(index) {
        const known = index !== null && index !== undefined && index < this.data[0].length;
        setText(
            $('chart-readout'),
            known
                ? format.timeExact(this.data[0][index]) + '  ' + format.number(this.data[1][index])
                : this.summary,
        );
    }
}
