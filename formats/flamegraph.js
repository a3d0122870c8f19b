// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flamegraph.js: the page: drawing, pointer and keys, panels. The sums are flamegraph_model.js's.
//
// The canvas is as large as the window and stays in place while #view scrolls over #spacer, which is as high as the
// deepest stack: a canvas as high as that would not be allowed. Only frames of half a pixel and more are drawn, and a
// frame narrower than that hides its whole subtree, so that a draw costs what is to be seen, not what is in the file.
// Every text goes into the document as textContent.
(function () {
	'use strict';
	const ROW = 20, PAD = 4, MIN_WIDTH = 0.5;
	const MAX_THREADS = 200, MAX_FUNCTIONS = 200, MAX_LEGEND = 8;
	const FONT = '12px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace';
	const byId = (id) => document.getElementById(id);
	const view = byId('view'), spacer = byId('spacer'), canvas = byId('canvas'), tooltip = byId('tooltip');
	const context = canvas.getContext('2d');
	const dark = window.matchMedia('(prefers-color-scheme: dark)');
	const model = flameModel.create(JSON.parse(byId('profile').textContent));
	const {data, total, self, start, end, depth, parent} = model;
	const state = {
		type: data.type, zoom: 0, history: [], selected: -1, hover: -1, flame: false, byName: false,
		match: null, found: null, top: -1, width: 1, height: 1, cell: 7.2, rows: 1, colors: [],
	};

	const format = (value, short) => flameModel.format(value, data.types[state.type], short);
	const percent = flameModel.percent;

	function element(tag, text, attributes) {
		const made = document.createElement(tag);
		if (text !== undefined)
			made.textContent = text;
		return Object.assign(made, attributes);
	}

	// ---- Colours -------------------------------------------------------------------------------------------------

	function colorOf(node) {
		if (node === 0)
			return flameColors.ofModule(Infinity, null);
		const frame = model.frameOf(node);
		if (!state.colors[frame]) {
			const {name, module} = model.frames[frame];
			state.colors[frame] = state.byName ? flameColors.ofName(name) : flameColors.ofModule(module, name);
		}
		return state.colors[frame];
	}

	// ---- Drawing -------------------------------------------------------------------------------------------------

	const scale = () => total[state.zoom] > 0 ? state.width / total[state.zoom] : 0;

	// Top of a row in the window.
	function rowTop(level) {
		return (state.flame ? spacer.clientHeight - (level + 1) * ROW : level * ROW) - view.scrollTop;
	}

	function levelAt(y) {
		const at = y + view.scrollTop;
		return Math.floor((state.flame ? spacer.clientHeight - at : at) / ROW);
	}

	// How many rows there are to scroll over: down to the deepest frame that is wide enough to be drawn.
	function measure() {
		const factor = scale();
		let deepest = depth[state.zoom];
		for (let i = state.zoom; i < end[state.zoom];) {
			if (total[i] * factor < MIN_WIDTH) {
				i = end[i];
				continue;
			}
			deepest = Math.max(deepest, depth[i]);
			i++;
		}
		state.rows = deepest + 1;
	}

	function layout() {
		tooltip.hidden = true;
		state.width = Math.max(1, view.clientWidth);
		state.height = Math.max(1, view.clientHeight);
		measure();
		spacer.style.height = Math.max(state.height, state.rows * ROW + 2) + 'px';
		state.width = Math.max(1, view.clientWidth); // a scroll bar may have come or gone
		const ratio = window.devicePixelRatio || 1;
		canvas.width = Math.round(state.width * ratio);
		canvas.height = Math.round(state.height * ratio);
		canvas.style.width = state.width + 'px';
		canvas.style.height = state.height + 'px';
		context.setTransform(ratio, 0, 0, ratio, 0, 0);
		context.font = FONT;
		context.textBaseline = 'middle';
		state.cell = context.measureText('m').width;
		draw();
	}

	function fitted(name, room) {
		const cells = Math.floor(room / state.cell);
		if (cells < 3)
			return '';
		if (/^[\x20-\x7e]*$/.test(name))
			return name.length <= cells ? name : name.slice(0, cells - 1) + '…';
		const characters = Array.from(name.slice(0, 2 * cells + 2));
		let keep = characters.length;
		while (keep > 0 && context.measureText(characters.slice(0, keep).join('') + '…').width > room)
			keep--;
		return keep === characters.length && name.length <= 2 * cells + 2 ? name : characters.slice(0, keep).join('') + '…';
	}

	function drawFrame(node, x, width, y) {
		const hit = state.found && node !== 0 && state.found.hits[model.frameOf(node)];
		const pale = depth[node] < depth[state.zoom] || (state.found && !hit);
		const gap = width > 3 ? 1 : width > 1.5 ? 0.5 : 0;
		context.globalAlpha = pale ? 0.38 : 1;
		context.fillStyle = hit ? '#a3157f' : colorOf(node);
		context.fillRect(x, y, width - gap, ROW - 1);
		context.globalAlpha = 1;
		const text = fitted(model.labelOf(node), width - gap - 2 * PAD);
		if (text) {
			context.fillStyle = hit && !pale ? '#fff' : pale && dark.matches ? '#d5d9de' : '#1b1f24';
			context.fillText(text, x + PAD, y + ROW / 2);
		}
	}

	function outline(node, color, thickness) {
		if (node < 0)
			return;
		const above = depth[node] < depth[state.zoom];
		const x = above ? 0 : (start[node] - start[state.zoom]) * scale();
		const width = above ? state.width : total[node] * scale();
		context.strokeStyle = color;
		context.lineWidth = thickness;
		context.strokeRect(x + thickness / 2, rowTop(depth[node]) + thickness / 2,
			Math.max(1, width - 1 - thickness), ROW - 1 - thickness);
	}

	// Neighbours too narrow to be drawn one by one are shown together, so that no time seems to be missing.
	function drawCrowd(crowd, factor) {
		const width = (crowd.end - crowd.start) * factor;
		if (width >= MIN_WIDTH) {
			context.fillStyle = dark.matches ? '#4a515a' : '#d9dde2';
			context.fillRect((crowd.start - start[state.zoom]) * factor, rowTop(crowd.level), width, ROW - 1);
		}
	}

	function drawBelow(factor) {
		const crowd = {start: 0, end: 0, level: -1};
		for (let i = state.zoom; i < end[state.zoom];) {
			const width = total[i] * factor, y = rowTop(depth[i]);
			if (state.flame ? y < -ROW : y > state.height) {
				i = end[i];
			} else if (width < MIN_WIDTH) {
				if (crowd.level !== depth[i] || crowd.end !== start[i]) {
					drawCrowd(crowd, factor);
					Object.assign(crowd, {start: start[i], level: depth[i]});
				}
				crowd.end = start[i] + total[i];
				i = end[i];
			} else {
				if (y > -ROW && y < state.height)
					drawFrame(i, (start[i] - start[state.zoom]) * factor, width, y);
				i++;
			}
		}
		drawCrowd(crowd, factor);
	}

	function draw() {
		context.clearRect(0, 0, state.width, state.height);
		for (let i = state.zoom; i !== 0;) {
			i = parent[i];
			drawFrame(i, 0, state.width, rowTop(depth[i]));
		}
		if (total[state.zoom] > 0)
			drawBelow(scale());
		outline(state.hover, dark.matches ? '#fff' : '#1b1f24', 1);
		outline(state.selected, dark.matches ? '#6cb0ff' : '#0969da', 2);
	}

	let pending = false;
	function redraw() {
		if (!pending)
			requestAnimationFrame(() => {
				pending = false;
				draw();
			});
		pending = true;
	}

	// ---- Zoom and selection --------------------------------------------------------------------------------------

	function ancestorAt(node, level) {
		while (depth[node] > level)
			node = parent[node];
		return node;
	}

	function isWithin(node, around) {
		return node >= around && node < end[around];
	}

	function showZoomed() {
		const node = state.zoom;
		byId('zoomed').textContent = node === 0 ? 'All: ' + format(total[0]) :
			'Zoomed: ' + model.labelOf(node) + ' — ' + percent(total[node], total[0]) + ' of total';
		byId('back').disabled = state.history.length === 0;
		byId('reset').disabled = node === 0;
	}

	function scrollTo(node) {
		const y = rowTop(depth[node]);
		if (y < 0 || y + ROW > state.height)
			view.scrollTop += state.flame ? y - state.height + 3 * ROW : y - 2 * ROW;
	}

	function setZoom(node) {
		state.zoom = node;
		state.hover = -1;
		if (state.selected >= 0 && !isWithin(state.selected, node) && !isWithin(node, state.selected))
			state.selected = node;
		layout();
		scrollTo(node);
		showZoomed();
		redraw();
	}

	function zoom(node) {
		if (node === state.zoom)
			return;
		state.history.push(state.zoom);
		setZoom(node);
	}

	function back() {
		if (state.history.length)
			setZoom(state.history.pop());
	}

	function select(node) {
		state.selected = node;
		byId('status').textContent = model.labelOf(node) + ' — ' + format(total[node]) + ', ' +
			percent(total[node], total[0]) + ' of total, ' + percent(total[node], total[state.zoom]) +
			' of zoomed; self ' + format(self[node]) + (model.placeOf(node) ? ' · ' + model.placeOf(node) : '');
		scrollTo(node);
		redraw();
	}

	function widestChild(node) {
		let widest = -1;
		for (let child = node + 1; child < end[node]; child = end[child])
			if (total[child] > 0 && (widest < 0 || total[child] > total[widest]))
				widest = child;
		return widest;
	}

	function callee(node) {
		return depth[node] < depth[state.zoom] ? ancestorAt(state.zoom, depth[node] + 1) : widestChild(node);
	}

	// The next frame of the same row that is wide enough to be seen; step is 1 or −1.
	function neighbour(node, step) {
		const factor = scale();
		if (depth[node] <= depth[state.zoom])
			return -1;
		for (let i = node + step; i > state.zoom && i < end[state.zoom]; i += step)
			if (depth[i] === depth[node] && total[i] * factor >= MIN_WIDTH)
				return i;
		return -1;
	}

	function move(key) {
		const from = state.selected < 0 ? state.zoom : state.selected;
		const inward = key === (state.flame ? 'ArrowUp' : 'ArrowDown');
		let to = from;
		if (state.selected >= 0)
			to = key === 'ArrowLeft' ? neighbour(from, -1) : key === 'ArrowRight' ? neighbour(from, 1) :
				inward ? callee(from) : parent[from];
		if (to >= 0)
			select(to);
	}

	// ---- Search --------------------------------------------------------------------------------------------------

	function showMatched() {
		const found = state.found;
		byId('matched').textContent = state.match === undefined ? 'not a valid pattern' : !found ? '' :
			'matched ' + percent(found.sum, total[0]) + ' (' + format(found.sum) + ')';
		byId('matched').title = found ? found.functions + ' functions match; a stack counts once' : '';
	}

	function search(text) {
		state.match = flameModel.pattern(text);
		state.found = state.match ? model.search(state.match) : null;
		state.top = -1;
		showMatched();
		redraw();
	}

	function nextMatch(step) {
		const tops = state.found ? state.found.tops : [];
		if (!tops.length)
			return;
		state.top = state.top < 0 ? (step > 0 ? 0 : tops.length - 1) : (state.top + step + tops.length) % tops.length;
		const node = tops[state.top];
		if (!isWithin(node, state.zoom) || total[node] * scale() < 4)
			zoom(total[node] * state.width / total[0] < 4 ? node : 0);
		select(node);
	}

	function setSearch(text) {
		byId('search').value = text;
		search(text);
	}

	// ---- Value, thread, colours ----------------------------------------------------------------------------------

	const threadName = (thread) => (thread.name || (thread.id ? 'thread' : '[no thread]')) +
		(thread.id ? ' (' + thread.id + ')' : '');

	function threadWeights() {
		const weights = new Float64Array(model.threads.length), values = model.leaves.values[state.type];
		for (let i = 0; i < model.leaves.count; i++)
			weights[model.leaves.thread[i]] += values[i];
		return weights;
	}

	function threadOptions() {
		const weights = threadWeights(), names = new Map();
		model.threads.forEach((thread, i) => {
			const group = names.get(thread.name) || {name: thread.name, count: 0, weight: 0};
			group.count++;
			group.weight += weights[i];
			names.set(thread.name, group);
		});
		const groups = Array.from(names.values()).filter((group) => group.count > 1 && names.size > 1);
		const single = model.threads.map((thread, i) => i).sort((a, b) => weights[b] - weights[a] || a - b);
		return [['', 'all ' + model.threads.length]].concat(
			groups.sort((a, b) => b.weight - a.weight).slice(0, MAX_THREADS)
				.map((group) => ['n' + group.name, (group.name || '[no name]') + ' ×' + group.count]),
			single.slice(0, MAX_THREADS).map((i) => ['t' + i, threadName(model.threads[i])]));
	}

	function acceptedThreads(choice) {
		if (!choice)
			return null;
		return Uint8Array.from(model.threads, (thread, i) =>
			(choice[0] === 'n' ? thread.name === choice.slice(1) : i === Number(choice.slice(1))) ? 1 : 0);
	}

	function choose() {
		state.type = Number(byId('type').value || state.type);
		model.select(state.type, acceptedThreads(byId('thread').value));
		if (total[state.zoom] === 0) {
			state.zoom = 0;
			state.history = [];
		}
		state.selected = state.hover = -1;
		byId('status').textContent = '';
		if (state.match)
			state.found = model.search(state.match);
		state.top = -1;
		showMatched();
		showSummary();
		showTable();
		setZoom(state.zoom);
	}

	function baseName(path) {
		return path ? path.slice(path.lastIndexOf('/') + 1) || path : '[no module]';
	}

	function showLegend() {
		const legend = byId('legend'), count = model.modules.length;
		legend.replaceChildren();
		legend.hidden = state.byName || count === 0;
		for (let i = 0; i < Math.min(count, MAX_LEGEND) + (count > MAX_LEGEND ? 1 : 0); i++) {
			const item = element('li', undefined, {title: i < MAX_LEGEND ? model.modules[i] : ''});
			const swatch = element('i');
			swatch.style.background = flameColors.ofModule(i, null);
			item.append(swatch, element('span', i < MAX_LEGEND ? baseName(model.modules[i]) : count - i + ' others'));
			legend.append(item);
		}
	}

	function toggleColors() {
		state.byName = !state.byName;
		state.colors = [];
		byId('colors').textContent = state.byName ? 'By name' : 'By module';
		byId('colors').setAttribute('aria-pressed', state.byName);
		showLegend();
		layout();
	}

	function toggleFlame() {
		state.flame = !state.flame;
		byId('invert').textContent = state.flame ? 'Flame' : 'Icicle';
		byId('invert').setAttribute('aria-pressed', state.flame);
		layout();
		view.scrollTop = state.flame ? spacer.clientHeight : 0;
		redraw();
	}

	// ---- Panels --------------------------------------------------------------------------------------------------

	function showSummary() {
		const summary = byId('summary');
		const parts = [data.types[state.type][0] + ': ' + format(total[0])];
		if (data.duration > 0)
			parts.push('in ' + flameModel.format(data.duration, ['', 'nanoseconds']));
		summary.textContent = parts.join(' ');
		for (const [count, text] of [[data.limited, 'of the lightest frames are folded into their callers'],
			[data.negative, 'values below zero have no width']])
			if (count > 0)
				summary.append(' · ', element('span', count.toLocaleString('en-US') + ' ' + text, {className: 'alert'}));
		if (total[0] === 0)
			summary.append(' · ', element('span', 'nothing was sampled', {className: 'alert'}));
	}

	function showInfo() {
		const facts = byId('facts');
		for (const [term, text] of [
			['Started', data.time > 0 ? new Date(data.time / 1e6).toISOString() : ''],
			['Duration', data.duration > 0 ? flameModel.format(data.duration, ['', 'nanoseconds']) : ''],
			['Period', data.period > 0 ? flameModel.format(data.period, data.periodType) : ''],
			['Threads', model.threads.length || ''], ['Functions', model.frames.length.toLocaleString('en-US')],
			['Frames', (model.count - 1).toLocaleString('en-US')], ['Written by', 'profd ' + data.version],
		])
			if (text)
				facts.append(element('dt', term), element('dd', text));
		byId('comments').append(...data.comments.map((comment) => element('li', comment)));
	}

	function functionRow(entry) {
		const row = element('tr'), button = element('button', entry.frame.label, {type: 'button', title: entry.frame.name});
		for (const value of [entry.self, entry.total])
			row.append(element('td', format(value, true)), element('td', percent(value, total[0])));
		button.addEventListener('click', () =>
			setSearch('/^' + entry.frame.name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&') + '$/'));
		const cell = element('td');
		cell.append(button);
		cell.title = model.modules[entry.frame.module];
		row.append(cell);
		return row;
	}

	function showTable() {
		if (byId('table').hidden)
			return;
		const functions = model.functions();
		byId('caption').textContent = 'Functions by their own ' + data.types[state.type][0] +
			(functions.length > MAX_FUNCTIONS ? ', the first ' + MAX_FUNCTIONS + ' of ' + functions.length : '');
		byId('rows').replaceChildren(...functions.slice(0, MAX_FUNCTIONS).map(functionRow));
	}

	function toggleTable() {
		byId('table').hidden = !byId('table').hidden;
		byId('table-button').setAttribute('aria-pressed', !byId('table').hidden);
		showTable();
		layout();
	}

	// ---- Pointer -------------------------------------------------------------------------------------------------

	function nodeAt(event) {
		const box = view.getBoundingClientRect();
		const x = event.clientX - box.left, level = levelAt(event.clientY - box.top);
		if (level < 0 || x < 0 || x >= state.width || !(total[state.zoom] > 0))
			return -1;
		if (level < depth[state.zoom])
			return ancestorAt(state.zoom, level);
		const node = model.find(state.zoom, level, start[state.zoom] + x / scale());
		return node >= 0 && total[node] * scale() >= MIN_WIDTH ? node : -1;
	}

	function figures(label, value) {
		return [element('span', label), element('span', format(value)), element('span', percent(value, total[0]) + ' of total'),
			element('span', state.zoom === 0 ? '' : percent(value, total[state.zoom]) + ' of zoomed')];
	}

	function fillTooltip(node) {
		const grid = element('div'), module = model.moduleOf(node);
		const place = [module < 0 ? '' : model.modules[module] || '[no module]', model.placeOf(node)].filter(Boolean);
		grid.append(...figures('total', total[node]), ...figures('self', self[node]));
		tooltip.replaceChildren(element('b', model.nameOf(node)));
		if (place.length)
			tooltip.append(element('span', place.join(' · '), {className: 'place'}));
		if (model.reasonOf(node))
			tooltip.append(element('span', 'No name: ' + model.reasonOf(node), {className: 'place'}));
		tooltip.append(grid);
	}

	function hover(event) {
		const node = nodeAt(event);
		view.style.cursor = node >= 0 ? 'pointer' : '';
		tooltip.hidden = node < 0;
		if (node !== state.hover) {
			state.hover = node;
			if (node >= 0)
				fillTooltip(node);
			redraw();
		}
		if (node < 0)
			return;
		const box = tooltip.getBoundingClientRect();
		const x = Math.min(event.clientX + 14, window.innerWidth - box.width - 6);
		const below = event.clientY + 18 + box.height < window.innerHeight;
		tooltip.style.left = Math.max(6, x) + 'px';
		tooltip.style.top = Math.max(6, below ? event.clientY + 18 : event.clientY - box.height - 10) + 'px';
	}

	function leave() {
		state.hover = -1;
		tooltip.hidden = true;
		redraw();
	}

	function click(event) {
		const node = nodeAt(event);
		if (node < 0)
			return;
		zoom(node);
		select(node);
	}

	// ---- Keys ----------------------------------------------------------------------------------------------------

	function escape() {
		if (byId('search').value)
			setSearch('');
		else if (state.zoom !== 0)
			zoom(0);
		view.focus();
	}

	const KEYS = {
		'/': () => { byId('search').focus(); byId('search').select(); },
		'?': () => byId('help').showModal(),
		Backspace: back, 0: () => zoom(0), i: toggleFlame, c: toggleColors, t: toggleTable, Escape: escape,
		n: () => nextMatch(1), N: () => nextMatch(-1),
	};

	function key(event) {
		const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
		const onGraph = event.target === view || event.target === document.body;
		if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]') ||
			(typing && event.key !== 'Escape'))
			return;
		if (Object.hasOwn(KEYS, event.key))
			KEYS[event.key]();
		else if (/^Arrow/.test(event.key) && onGraph)
			move(event.key);
		else if (event.key === 'Enter' && onGraph && state.selected >= 0)
			zoom(state.selected);
		else
			return;
		event.preventDefault();
	}

	// ---- The start -----------------------------------------------------------------------------------------------

	function fillChoices() {
		byId('type').append(...data.types.map(([type, unit], i) =>
			element('option', type + (unit === 'count' ? '' : ' (' + unit + ')'), {value: i, selected: i === state.type})));
		byId('type-field').hidden = data.types.length < 2;
		byId('thread').append(...threadOptions().map(([value, text]) => element('option', text, {value})));
		byId('thread-field').hidden = model.threads.length < 2;
	}

	function listen() {
		const clicks = {
			back, reset: () => zoom(0), invert: toggleFlame, colors: toggleColors, 'table-button': toggleTable,
			'info-button': () => byId('info').showModal(), 'help-button': () => byId('help').showModal(),
		};
		for (const [id, action] of Object.entries(clicks))
			byId(id).addEventListener('click', action);
		byId('type').addEventListener('change', choose);
		byId('thread').addEventListener('change', choose);
		byId('search').addEventListener('input', (event) => search(event.target.value));
		byId('search').addEventListener('keydown', (event) => {
			if (event.key === 'Enter')
				nextMatch(event.shiftKey ? -1 : 1);
		});
		view.addEventListener('pointermove', hover);
		view.addEventListener('pointerleave', leave);
		view.addEventListener('click', click);
		view.addEventListener('scroll', () => { leave(); redraw(); });
		document.addEventListener('keydown', key);
		dark.addEventListener('change', redraw);
		new ResizeObserver(layout).observe(view);
	}

	byId('title').textContent = data.title;
	fillChoices();
	showInfo();
	showLegend();
	listen();
	choose();
})();
