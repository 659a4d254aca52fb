// Asks how the cache is doing, every other second, and draws it. Counters come as they are in the
// segment, since it was made: rates are their differences, so that any worker may answer.
"use strict";

(() => {
  const LEAST_SPAN_S = 60, SPAN_S = 300;
  const root = document.getElementById("zoo");
  if (!root) return;
  const everyMs = Number(root.dataset.every);
  const {html, line, linear, logarithmic, map, roundUp} = zooCharts;
  const at = (id) => document.getElementById(`zoo-${id}`);
  const history = []; // {time, ratio, hits, misses, get50, get99, fill50, fill99}
  let before = null;
  let sorted = {key: "reads", up: false};
  let last = null;

  // Numbers as people read them

  const grouped = new Intl.NumberFormat("en");
  const count = (n) => grouped.format(Math.round(n));

  function short(n) {
    if (n >= 1e6) return `${+(n / 1e6).toPrecision(3)}M`;
    if (n >= 1e4) return `${+(n / 1e3).toPrecision(3)}k`;
    return n >= 10 || n === 0 ? count(n) : `${+n.toPrecision(2)}`;
  }

  function size(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
    return `${unit === 0 ? count(n) : n.toFixed(1)} ${units[unit]}`;
  }

  function seconds(s) {
    if (s === null) return "–";
    if (s < 1e-6) return `${+(s * 1e9).toPrecision(2)} ns`;
    if (s < 1e-3) return `${+(s * 1e6).toPrecision(2)} µs`;
    if (s < 1) return `${+(s * 1e3).toPrecision(2)} ms`;
    return `${+s.toPrecision(2)} s`;
  }

  function age(s) {
    if (s >= 172800) return `${count(s / 86400)} d`;
    if (s >= 7200) return `${count(s / 3600)} h`;
    if (s >= 120) return `${count(s / 60)} min`;
    return `${count(Math.max(0, s))} s`;
  }

  // Without the folders of the interpreter and the script.
  const command = (text) =>
    text.split(" ").map((word, i) => (i < 2 ? word.replace(/^.*\//, "") : word)).join(" ").slice(0, 80);

  const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);
  const share = (hits, misses) => (hits + misses > 0 ? hits / (hits + misses) : null);

  // The seconds in which so large a share was done: the limit of its bucket.
  function quantile(counts, limits, wanted) {
    const total = counts.reduce((sum, n) => sum + n, 0);
    let soFar = 0;
    for (let i = 0; i < counts.length && total > 0; i++) {
      soFar += counts[i];
      if (counts[i] && soFar >= wanted * total) return limits[i] === null ? limits[i - 1] : limits[i];
    }
    return null;
  }

  // What has happened since the look before

  function since(seen) {
    const elapsed = before ? seen.now - before.now : 0;
    // Another segment took its place, or this is the first look.
    if (elapsed <= 0 || seen.counters.sets < before.counters.sets) return null;
    const rate = (name) => Math.max(0, seen.counters[name] - before.counters[name]) / elapsed;
    const spans = (name) => seen.spans[name].counts.map((n, i) => Math.max(0, n - before.spans[name].counts[i]));
    const {limits} = seen.spans, gets = spans("gets"), fills = spans("fills");
    const local = rate("local"), shared = rate("hits"), misses = rate("misses");
    return {
      time: seen.now, local, shared, misses, hits: local + shared, ratio: share(local + shared, misses),
      get50: quantile(gets, limits, 0.5), get99: quantile(gets, limits, 0.99),
      fill50: quantile(fills, limits, 0.5), fill99: quantile(fills, limits, 0.99),
    };
  }

  // Drawing

  function tiles(seen, now) {
    const all = seen.counters, {limits} = seen.spans;
    const given = [
      ["hit ratio", percent(now && now.ratio), `${percent(share(all.hits + all.local, all.misses))} in all`],
      ["hits per second", now ? short(now.hits) : "–", now ? `${short(now.local)} of own copies` : ""],
      ["misses per second", now ? short(now.misses) : "–", `${short(all.misses)} in all`],
      ["a get takes", seconds(quantile(seen.spans.gets.counts, limits, 0.5)), "median, in the core"],
      ["a miss takes", seconds(quantile(seen.spans.fills.counts, limits, 0.5)), "median, until stored"],
      ["entries", short(seen.entries.fresh), `${size(seen.entries.fresh_bytes)} of ${size(seen.size)}`],
      ["fills refused", short(all.born_dead + all.too_large + all.crowded), `${short(all.born_dead)} overtaken by writes`],
      ["invalidations", short(all.invalidations + all.announced), `${short(all.tags)} tags; ${seen.commits} under way`],
    ];
    at("tiles").replaceChildren(...given.map(([name, value, more]) => html("div", {},
      html("dt", {}, name), html("dd", {}, value, html("small", {title: more}, more)))));
  }

  function charts() {
    const times = history.map((one) => one.time);
    const values = (name) => history.map((one) => one[name]);
    const lasted = times.length ? times[times.length - 1] - times[0] : 0;
    const common = {times, span: Math.min(SPAN_S, Math.max(LEAST_SPAN_S, Math.ceil(lasted / 30) * 30))};
    line(at("ratio"), {
      ...common, label: "Hit ratio of the last minutes", scale: linear(0, 1, 4), format: (n) => `${Math.round(100 * n)} %`,
      series: [{name: "hits, of all reads", kind: "zoo-hit", values: values("ratio"), area: true}],
    });
    const most = roundUp(Math.max(1, ...values("hits"), ...values("misses")));
    line(at("rates"), {
      ...common, label: "Reads per second", scale: linear(0, most, 4), format: short,
      series: [
        {name: "hits", kind: "zoo-hit", values: values("hits"), area: true},
        {name: "misses", kind: "zoo-miss", values: values("misses")},
      ],
    });
    const known = ["get50", "get99", "fill50", "fill99"].flatMap(values).filter((n) => n !== null);
    line(at("latency"), {
      ...common, label: "How long gets and misses take", format: seconds,
      scale: logarithmic(known.length ? Math.min(...known) : 1e-7, known.length ? Math.max(...known) : 1e-2),
      series: [
        {name: "get, median", kind: "zoo-hit", values: values("get50")},
        {name: "get, 99 %", kind: "zoo-hit", values: values("get99"), dashed: true},
        {name: "miss, median", kind: "zoo-miss", values: values("fill50")},
        {name: "miss, 99 %", kind: "zoo-miss", values: values("fill99"), dashed: true},
      ],
    });
  }

  function memory(seen) {
    map(at("map"), seen.logs, size);
    const {fresh, stale, expired, pending} = seen.entries;
    const part = seen.counted < 1 ? `, extrapolated from ${percent(seen.counted)} of the index` : "";
    at("map-note").textContent =
      `${count(fresh)} fresh entries, ${count(stale)} stale, ${count(expired)} expired, ${count(pending)} pending${part}; ` +
      `the index is ${percent(seen.index)} full.`;
  }

  function table(place, columns, rows, empty) {
    const head = html("tr", {}, ...columns.map(({name, number, key}) => {
      const cell = html("th", {scope: "col", ...(number ? {class: "zoo-number"} : {})});
      if (key === undefined) {
        cell.append(name);
      } else {
        const button = html("button", {type: "button", "data-key": key}, name);
        if (key === sorted.key) cell.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
        cell.append(button);
      }
      return cell;
    }));
    const body = rows.map((row) => html("tr", {}, ...row.map((value, i) => {
      const cell = html("td", {class: columns[i].number ? "zoo-number" : "zoo-text"});
      cell.append(...(Array.isArray(value) ? value : [value]));
      return cell;
    })));
    if (!rows.length) body.push(html("tr", {}, html("td", {colspan: columns.length}, empty)));
    place.replaceChildren(html("thead", {}, head), html("tbody", {}, ...body));
  }

  const SITES = [
    {name: "Model or function", key: "name", of: (one) => one.name},
    {name: "Hit ratio", number: true, key: "ratio", of: (one) => share(one.hits, one.misses) ?? -1},
    {name: "Reads", number: true, key: "reads", of: (one) => one.hits + one.misses + one.bypassed},
    {name: "Hits", number: true, key: "hits", of: (one) => one.hits},
    {name: "Misses", number: true, key: "misses", of: (one) => one.misses},
    {name: "Refused", number: true, key: "refused", of: (one) => one.refused},
    {name: "Bypassed", number: true, key: "bypassed", of: (one) => one.bypassed},
    {name: "Stored", number: true, key: "size", of: (one) => one.size},
    {name: "A miss takes", number: true, key: "cost", of: (one) => one.ns / Math.max(1, one.misses)},
  ];

  function sites(seen) {
    const {of} = SITES.find(({key}) => key === sorted.key);
    const compare = (a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : a.name < b.name ? -1 : 1);
    const rows = [...seen.sites].sort((a, b) => (sorted.up ? compare(a, b) : compare(b, a)));
    table(at("sites"), SITES, rows.map((one) => [
      [one.name || "all others", html("small", {}, one.place || (one.kind === "query" ? "other querysets" : one.kind))],
      percent(share(one.hits, one.misses)), count(one.hits + one.misses + one.bypassed), count(one.hits),
      count(one.misses), count(one.refused), count(one.bypassed), size(one.size),
      one.misses ? seconds(one.ns / one.misses / 1e9) : "–",
    ]), "Nothing was read through the cache yet.");
  }

  function dropped(seen) {
    table(at("dropped"), [{name: "When"}, {name: "What"}, {name: "Cause"}], seen.dropped.map((one) => {
      const more = one.more ? [...(one.names.length ? ["and "] : []), `${count(one.more)} ${one.names.length ? "more" : "tags"}`] : [];
      return [`${age(seen.now - one.when)} ago`, [one.names.join(", "), " ", ...more], `${one.cause} by ${one.pid}`];
    }), "Nothing was dropped yet.");
  }

  function workers(seen) {
    const columns = [{name: "Pid", number: true}, {name: "Age", number: true}, {name: "Own memory", number: true}, {name: "Command"}];
    const rows = seen.workers.map((one) => [
      `${one.pid}`, age(one.age), size(one.own),
      [...(one.stopped ? [html("strong", {class: "zoo-warn"}, "stopped ")] : []), command(one.command)],
    ]);
    if (seen.hidden) rows.push(["–", "", "", `${seen.hidden} in other pid namespaces`]);
    table(at("workers"), columns, rows, "No process that can be seen here uses it.");
  }

  function tags(seen) {
    const columns = [{name: "Tag"}, {name: "Times", number: true}];
    const rows = seen.hot_tags.map((one) => [one.name, count(one.times)]);
    table(at("tags"), columns, rows, "Nothing was dropped in the last minute.");
  }

  function draw(seen) {
    const now = since(seen);
    if (now) {
      history.push(now);
      while (history.length && history[0].time < seen.now - SPAN_S) history.shift();
    }
    before = seen;
    last = seen;
    at("about").textContent = `${seen.path}, ${size(seen.size)}, made or cleared ${age(seen.age)} ago.`;
    tiles(seen, now);
    charts();
    memory(seen);
    sites(seen);
    dropped(seen);
    workers(seen);
    tags(seen);
  }

  function say(state, text, error = "") {
    root.dataset.state = state;
    at("live").textContent = text;
    at("error").textContent = error;
    at("error").hidden = !error;
  }

  async function poll() {
    try {
      const answer = await fetch(root.dataset.url, {headers: {Accept: "application/json"}, credentials: "same-origin"});
      if (!answer.ok || answer.redirected) throw new Error(`the server answered ${answer.status}: is the session over?`);
      const seen = await answer.json();
      if (seen.error) throw new Error(seen.error);
      draw(seen);
      say("live", "live");
    } catch (error) {
      say("error", "not live", `${error.message}`);
    }
    setTimeout(next, everyMs);
  }

  // A page that nobody looks at asks nothing.
  function next() {
    if (document.hidden) document.addEventListener("visibilitychange", poll, {once: true});
    else poll();
  }

  at("sites").addEventListener("click", (event) => {
    const key = event.target.dataset.key;
    if (!key || !last) return;
    sorted = {key, up: key === sorted.key ? !sorted.up : key === "name"};
    sites(last);
  });

  // Of the form, only the fields that count.
  const what = document.getElementById("zoo-what");
  function fields() {
    const wanted = {model: ["model"], object: ["model", "pk"], tag: ["tag"]}[what.value];
    for (const field of document.querySelectorAll(".zoo-field[data-field]"))
      field.hidden = field.dataset.field !== "what" && !wanted.includes(field.dataset.field);
  }
  if (what) {
    what.addEventListener("change", fields);
    fields();
  }

  next();
})();
