// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph_svg.js: zoom and search for the SVG flame graph. The picture is complete without it. It reads what the
// elements say: <g data-n=TOTAL data-d=DEPTH data-l=LABEL> with a title whose first line is the name, a rect and a text.
// The label is what is shown; without one it is the name.
(function () {
	'use strict';
	const MARGIN = 12, PAD = 3, CELL = 7.23, WIDTH = 1200, SVG = 'http://www.w3.org/2000/svg';
	const XHTML = 'http://www.w3.org/1999/xhtml';
	const root = document.documentElement;
	const frames = Array.from(document.querySelectorAll('#frames > g'), read);
		const footer = document.getElementById('footer'), footerText = footer.textContent;

	function read(g) {
		const rect = g.querySelector('rect'), title = g.querySelector('title').textContent;
		return {
			g, rect, text: g.querySelector('text'), title, name: title.split('\n', 1)[0],
			label: g.dataset.l || title.split('\n', 1)[0],
			total: Number(g.dataset.n), depth: Number(g.dataset.d),
			x: Number(rect.getAttribute('x')), width: Number(rect.getAttribute('width')),
		};
	}

	function place(frame, x, width) {
		frame.rect.setAttribute('x', x);
		frame.rect.setAttribute('width', Math.max(0, width));
		frame.text.setAttribute('x', x + PAD);
		const cells = Math.floor((width - 2 * PAD) / CELL);
		frame.text.textContent = cells < 3 ? '' :
			frame.label.length <= cells ? frame.label : frame.label.slice(0, cells - 1) + '…';
	}

	// The frames around the zoomed one keep their place above it, pale and at full width; it and what is below it are
	// stretched; the rest is hidden.
	function zoom(to) {
		const factor = (WIDTH - 2 * MARGIN) / to.width, end = to.x + to.width, epsilon = 0.005;
		for (const frame of frames) {
			const inside = frame.depth >= to.depth && frame.x >= to.x - epsilon &&
				frame.x + frame.width <= end + epsilon;
			const above = frame.depth < to.depth && frame.x <= to.x + epsilon &&
				frame.x + frame.width >= end - epsilon;
			frame.g.style.display = inside || above ? '' : 'none';
			frame.g.classList.toggle('above', above);
			if (above)
				place(frame, MARGIN, WIDTH - 2 * MARGIN);
			else if (inside)
				place(frame, MARGIN + (frame.x - to.x) * factor, frame.width * factor);
		}
		reset.style.display = to === frames[0] ? 'none' : '';
	}

	function pattern(text) {
		const regex = /^\/(.*)\/([imsu]*)$/.exec(text);
		try {
			return regex ? new RegExp(regex[1], regex[2]) :
				new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
		} catch (error) {
			return null;
		}
	}

	// The share of the whole under frames that match, a stack being counted once: the frames come callers first, so
	// what is inside the last match that counted is skipped.
	function search(text) {
		const match = text ? pattern(text) : null;
		let sum = 0, last = null;
		for (const frame of frames) {
			const hit = match !== null && frame.depth > 0 && match.test(frame.name);
			const within = last && frame.depth > last.depth && frame.x + frame.width <= last.x + last.width + 0.005;
			if (hit && !within) {
				sum += frame.total;
				last = frame;
			}
			frame.g.classList.toggle('hit', hit);
			frame.g.classList.toggle('miss', Boolean(match) && !hit);
		}
		const all = frames[0].total || 1;
		result.textContent = !text ? '' : !match ? 'not a valid pattern' : 'matched ' + (100 * sum / all).toFixed(2) + '%';
	}

	function label(text, x, anchor) {
		const element = document.createElementNS(SVG, 'text');
		element.setAttribute('class', 's');
		element.setAttribute('x', x);
		element.setAttribute('y', 27);
		element.setAttribute('text-anchor', anchor);
		element.textContent = text;
		root.appendChild(element);
		return element;
	}

	function input() {
		const holder = document.createElementNS(SVG, 'foreignObject');
		for (const [key, value] of Object.entries({x: WIDTH - MARGIN - 240, y: 8, width: 240, height: 30}))
			holder.setAttribute(key, value);
		const field = document.createElementNS(XHTML, 'input');
		field.type = 'search';
		field.placeholder = 'Search text or /regex/';
		field.setAttribute('aria-label', 'Search frames');
		field.style.cssText = 'box-sizing:border-box;width:100%;height:26px;font:13px system-ui,sans-serif;' +
			'padding:2px 6px;border:1px solid #8c959f;border-radius:4px';
		field.addEventListener('input', () => search(field.value));
		holder.appendChild(field);
		root.appendChild(holder);
		return field;
	}

	const field = input();
	const result = label('', WIDTH - MARGIN - 252, 'end');
	result.id = 'matched';
	const reset = label('Reset zoom', WIDTH - MARGIN - 420, 'end');
	reset.id = 'reset';
	reset.style.cssText = 'cursor:pointer;text-decoration:underline;display:none';
	reset.addEventListener('click', () => zoom(frames[0]));
	for (const frame of frames) {
		frame.g.style.cursor = 'pointer';
		frame.g.addEventListener('click', () => zoom(frame));
		frame.g.addEventListener('mouseenter', () => { footer.textContent = frame.title.replace(/\n/g, '   '); });
		frame.g.addEventListener('mouseleave', () => { footer.textContent = footerText; });
	}
	document.addEventListener('keydown', (event) => {
		if (event.key === '/' && event.target !== field) {
			field.focus();
			event.preventDefault();
		} else if (event.key === 'Escape') {
			if (field.value) {
				field.value = '';
				search('');
			} else {
				zoom(frames[0]);
			}
			field.blur();
		}
	});
})();
