"use strict";
// What a page gains where scripts run: values under the pointer, lines on and off, tables in any order and searched, hard
// images by class and backend, and each of them large. Nothing is fetched, and nothing is here that the page does not
// say without it. Texts come from the page, which speaks the reader's language: `words` is the list beside this script.
(() => {
  const words = JSON.parse(document.getElementById("words").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, properties = {}, ...children) => {
    const one = Object.assign(document.createElement(name), properties);
    one.append(...children);
    return one;
  };
  const comma = new Intl.NumberFormat(document.documentElement.lang).format(0.5).includes(",");
  const shown = (value, digits) => value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

  // ---------------------------------------------------------------------------------------------------------- tables

  // "93.3 to 95.5" → 93.3; "—" → null; a text without a number at its beginning stays a text.
  const number = text => {
    let plain = text.replace(/[\u00a0\u202f\s](?=\d{3}(\D|$))/g, "").replace(/[−–](?=\d)/g, "-").trim();
    plain = comma ? plain.replace(",", ".") : plain.replace(/,(?=\d{3})/g, "");
    const found = plain.match(/^[<>×]?\s*([+-]?\d+(\.\d+)?)/);
    return found ? Number(found[1]) : null;
  };
  const sort = (table, column, descending) => {
    const body = table.tBodies[0], rows = [...body.rows];
    const keyed = rows.map(row => ({ row, text: row.cells[column].textContent.trim(), value: number(row.cells[column].textContent) }));
    const empty = one => one.text === "—" || one.text === "";
    keyed.sort((a, b) => {
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const by = a.value !== null && b.value !== null ? a.value - b.value : a.text.localeCompare(b.text, undefined, { numeric: true });
      return descending ? -by : by;
    });
    body.append(...keyed.map(one => one.row));
    for (const row of rows) row.classList.remove("rule");
  };
  for (const table of all("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", { type: "button", title: words.sort }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, descending);
      });
    });
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 9) continue;
    const field = make("input", { type: "search" }), count = make("output");
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase(), fits = wanted.every(word => text.includes(word));
        row.hidden = !fits;
        n += fits;
      }
      count.textContent = wanted.length ? `${n} / ${rows.length}` : "";
    });
    table.parentElement.before(make("div", { className: "tools" }, make("label", {}, words.filter, field), count));
  }

  // A region that has nothing to scroll is no stop for the keyboard.
  const stops = all(".scroll[tabindex]");
  const measure = () => {
    const wide = stops.map(one => one.scrollWidth > one.clientWidth + 1);
    stops.forEach((one, place) => (wide[place] ? one.setAttribute("tabindex", "0") : one.removeAttribute("tabindex")));
  };
  if ("ResizeObserver" in window && stops.length <= 200) {
    const seen = new ResizeObserver(() => requestAnimationFrame(measure));
    seen.observe(document.body);
  }

  // ---------------------------------------------------------------------------------------------------------- curves

  // A path's points in the drawing; lines are made of straight parts alone.
  const points = path => [...path.getAttribute("d").matchAll(/[ML]\s*(-?[\d.]+)[ ,]+(-?[\d.]+)/g)].map(found => [Number(found[1]), Number(found[2])]);
  const at = (line, x) => {
    for (let place = 1; place < line.length; place++) {
      const [[x0, y0], [x1, y1]] = [line[place - 1], line[place]];
      if (x >= x0 - 0.01 && x <= x1 + 0.01) return x1 > x0 ? y0 + ((y1 - y0) * Math.min(Math.max((x - x0) / (x1 - x0), 0), 1)) : y0;
    }
    return line.length === 1 && Math.abs(line[0][0] - x) < 1 ? line[0][1] : null;
  };
  const curve = svg => {
    const [left, top, width, height, x0, x1, y0, y1, , log] = svg.dataset.axes.split(" ").map(Number);
    const names = { train: words.train, validation: words.validation, test: words.test };
    const series = all("g[data-series]", svg).map(group => {
      const [name, split] = group.dataset.series.split("|"), path = group.querySelector("path");
      return { group, name, split, line: split === "band" || !path ? [] : points(path), colour: path && path.style.stroke };
    });
    const lines = series.filter(one => one.line.length);
    if (!lines.length) return;
    const value = y => {
      const share = 1 - (y - top) / height;
      return log ? Math.exp(Math.log(y0) + share * (Math.log(y1) - Math.log(y0))) : y0 + share * (y1 - y0);
    };
    const holder = make("div", { className: "under" }), tip = make("div", { className: "tip", hidden: true });
    const rule = document.createElementNS("http://www.w3.org/2000/svg", "path");
    rule.setAttribute("style", "stroke: currentColor; stroke-width: .7; opacity: .5; fill: none");
    svg.replaceWith(holder);
    svg.append(rule);
    // On and off, by backend or network, and by split.
    const off = new Set(), draw = () => {
      for (const one of series) one.group.style.display = off.has(one.name) || off.has(one.split) || (one.split === "band" && off.has("test")) ? "none" : "";
    };
    const box = (key, label) => {
      const input = make("input", { type: "checkbox", checked: true });
      input.addEventListener("change", () => { off[input.checked ? "delete" : "add"](key); draw(); });
      return make("label", {}, input, label);
    };
    const backends = [...new Set(lines.map(one => one.name))], splits = [...new Set(lines.map(one => one.split))];
    const boxes = [...(backends.length > 1 ? backends.map(name => box(name, name)) : []), ...(splits.length > 1 ? splits.map(split => box(split, names[split] || split)) : [])];
    holder.append(svg, tip, make("div", { className: "tools" }, ...boxes));
    const hide = () => { tip.hidden = true; rule.setAttribute("d", ""); };
    const show = event => {
      const area = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
      const scale = view.width / area.width, px = (event.clientX - area.left) * scale;
      if (px < left - 6 || px > left + width + 6) return hide();
      const epoch = Math.round(x0 + ((px - left) / width) * (x1 - x0)), x = left + ((epoch - x0) / (x1 - x0)) * width;
      const told = lines.filter(one => !off.has(one.name) && !off.has(one.split)).map(one => [one, at(one.line, x)]).filter(([, y]) => y !== null);
      if (!told.length) return hide();
      rule.setAttribute("d", `M ${x} ${top} L ${x} ${top + height}`);
      const digits = y1 - y0 > 5 ? 2 : y1 - y0 > 0.05 ? 3 : 4, found = told.map(([one, y]) => [one, value(y)]).sort((a, b) => b[1] - a[1]);
      tip.replaceChildren(make("b", { textContent: `${words.epoch} ${epoch}` }), ...found.slice(0, 16).map(([one, number]) => {
        const row = make("div", { textContent: `${one.name}${splits.length > 1 ? `, ${names[one.split] || one.split}` : ""}: ${shown(number, digits)}` });
        row.style.borderLeft = `3px solid ${one.colour}`;
        row.style.paddingLeft = ".35rem";
        return row;
      }));
      tip.hidden = false;
      const room = area.width, wide = tip.offsetWidth, place = (x / view.width) * room;
      tip.style.left = `${Math.max(0, Math.min(place + 12 + wide > room ? place - wide - 12 : place + 12, room - wide))}px`;
      tip.style.top = `${(top / view.height) * area.height}px`;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  };
  // A drawing gets its boxes when it comes near the window: of hundreds, nobody waits for all.
  const drawings = all("svg[data-axes]");
  if ("IntersectionObserver" in window) {
    const near = new IntersectionObserver(entries => {
      for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); curve(entry.target); }
    }, { rootMargin: "400px" });
    for (const svg of drawings) near.observe(svg);
  } else drawings.forEach(curve);

  // ----------------------------------------------------------------------------------------------------- hard images

  const dialog = make("dialog");
  document.body.append(dialog);
  dialog.setAttribute("aria-label", words.image);
  const large = (tile, figure, step) => {
    const names = figure.dataset.names ? figure.dataset.names.split("\t") : [], backends = figure.dataset.backends.split(" ");
    const values = tile.dataset.values.split(";").map(row => row.split(",").map(Number));
    const picture = tile.querySelector("img").cloneNode();
    const parts = [picture];
    if (names.length && tile.dataset.values) {
      const head = make("tr", {}, make("th", { scope: "col", textContent: words.class }), ...backends.map(name => make("th", { scope: "col", className: "r", textContent: name })));
      const rows = names.map((name, place) => make("tr", {}, make("th", { scope: "row", textContent: name === tile.dataset.true ? `${name} ✓` : name }), ...values.map(row => make("td", { className: `r${row[place] === Math.max(...row) ? " most" : ""}`, textContent: shown(row[place], 3) }))));
      parts.push(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
    }
    const button = (text, act) => { const one = make("button", { type: "button", textContent: text }); one.addEventListener("click", act); return one; };
    dialog.replaceChildren(make("p", { textContent: picture.alt }), make("div", { className: "large" }, ...parts), make("form", {}, button(words.previous, () => step(-1)), button(words.next, () => step(1)), button(words.close, () => dialog.close())));
    if (!dialog.open) dialog.showModal();
  };
  for (const figure of all("figure.hardest")) {
    const tiles = all(".tile", figure), holder = figure.querySelector(".tiles"), backends = figure.dataset.backends.split(" ");
    const visible = () => [...holder.children].filter(one => !one.hidden);
    const open = tile => large(tile, figure, by => {
      const row = visible();
      open(row[(row.indexOf(tile) + by + row.length) % row.length]);
    });
    for (const tile of tiles) {
      tile.tabIndex = 0;
      tile.setAttribute("role", "button");
      tile.addEventListener("click", () => open(tile));
      tile.addEventListener("keydown", event => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(tile); }
      });
    }
    const choose = (title, values, texts = values) => {
      const field = make("select", {}, make("option", { value: "", textContent: words.all }), ...values.map((value, place) => make("option", { value, textContent: texts[place] })));
      field.addEventListener("change", arrange);
      return [make("label", {}, title, field), field];
    };
    const arrange = () => {
      const place = backends.indexOf(who.value), rank = tile => { const one = tile.dataset.ranks.split(" ")[place]; return one === "-" ? Infinity : Number(one); };
      for (const tile of tiles)
        tile.hidden = (what.value && tile.dataset.true !== what.value) || (place >= 0 && !Number.isFinite(rank(tile)))
          || (wrong.checked && !(place >= 0 ? tile.dataset.wrong.split(" ").includes(backends[place]) : tile.dataset.wrong));
      const order = place < 0 ? tiles : [...tiles].sort((a, b) => rank(a) - rank(b));
      holder.append(...order);
      count.textContent = `${visible().length} / ${tiles.length}`;
    };
    const [whatLabel, what] = choose(words.class, [...new Set(tiles.map(tile => tile.dataset.true))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })));
    const [whoLabel, who] = choose(words.backend, backends);
    const wrong = make("input", { type: "checkbox" }), count = make("output");
    wrong.addEventListener("change", arrange);
    holder.before(make("div", { className: "tools" }, whatLabel, whoLabel, make("label", {}, wrong, words.wrong), count));
  }

  // ------------------------------------------------------------------------------------------------ contents and paper

  const links = new Map(all("nav.contents a").map(link => [link.hash.slice(1), link]));
  if ("IntersectionObserver" in window) {
    const inView = new IntersectionObserver(entries => {
      for (const entry of entries) if (entry.isIntersecting) {
        for (const link of links.values()) { link.classList.remove("here"); link.removeAttribute("aria-current"); }
        links.get(entry.target.id)?.classList.add("here");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-10% 0px -75% 0px" });
    for (const section of all("main > section[id]")) if (links.has(section.id)) inView.observe(section);
  }
  let opened = [];
  addEventListener("beforeprint", () => { opened = all("details.fold:not([open])"); for (const one of opened) one.open = true; });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
})();
