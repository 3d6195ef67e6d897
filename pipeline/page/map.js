"use strict";
// The map: points on a canvas, coloured by what is chosen; hover, tap or arrow keys name one, a lasso lists several.

// Eleven hues and a grey that both grounds bear; brighter ones on a dark ground.
const PALETTE = matchMedia("(prefers-color-scheme: dark)").matches
  ? ["#4493f8", "#ff7b72", "#3fb950", "#e3b341", "#bc8cff", "#ffa657", "#39c5cf", "#f778ba", "#c69026", "#a5d65a", "#9fb6cd", "#e8d58a"]
  : ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#e16f24", "#0598a8", "#bf3989", "#7d4e2d", "#6b8e23", "#5f7d95", "#0a3069"];
const OTHER = "#8c959f";
const MOST_ZOOM = 40, MOST_LISTED = 500, MANY = 10000, NEAR = 40; // from so many clips on, points are squares, which are drawn faster

class CollectionMap {
  constructor(section, data, choice) {
    Object.assign(this, { data, choice, focus: null, zoom: { k: 1, x: 0, y: 0 }, lasso: null, drag: null });
    this.canvas = section.querySelector("canvas");
    this.tip = section.querySelector(".tip");
    this.legend = section.querySelector(".legend");
    this.status = section.querySelector(".status");
    this.method = section.querySelector(".method");
    this.form = section.querySelector(".map-form");
    this.form.addEventListener("submit", event => event.preventDefault());
    this.form.elements.map.addEventListener("change", () => this.open());
    this.form.elements.colour.addEventListener("change", () => this.paint());
    this.form.elements.search.addEventListener("input", () => this.find());
    this.list = section.querySelector(".picked");
    this.player = section.querySelector("audio");
    this.canvas.addEventListener("pointermove", event => this.move(event));
    this.canvas.addEventListener("pointerdown", event => this.press(event));
    this.canvas.addEventListener("pointerup", event => this.release(event));
    this.canvas.addEventListener("pointercancel", () => Object.assign(this, { drag: null }));
    this.canvas.addEventListener("pointerleave", () => this.name(null));
    this.canvas.addEventListener("keydown", event => this.key(event));
    this.canvas.addEventListener("dblclick", event => this.magnify(2, ...this.at(event)));
    this.canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey && this.zoom.k === 1) return; // the page scrolls
      event.preventDefault();
      this.magnify(Math.exp(-event.deltaY / 300), ...this.at(event));
    }, { passive: false });
    for (const button of section.querySelectorAll("button[data-zoom]")) button.addEventListener("click", () => this.magnify(Number(button.dataset.zoom)));
    this.tool = section.querySelector("button.lasso");
    this.tool.addEventListener("click", () => this.tool.setAttribute("aria-pressed", this.tool.getAttribute("aria-pressed") !== "true"));
    section.querySelector("datalist").append(...data.artists.slice(0, 5000).map(artist => element("option", { value: artist })));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  open() {
    this.lasso = null;
    this.list.replaceChildren();
    this.map = this.data.maps[Number(this.form.elements.map.value)];
    this.method.textContent = `${plural(this.map.clip.length, "clip")}. ${this.map.method}. Near points sound alike to the backbone; distances between far ones, and the size of groups, mean nothing.`;
    this.find();
  }

  // The place of the first split's test clips among the pooled ones, by clip.
  tested() {
    const view = this.choice.view();
    return new Map((view?.tested ?? []).map((clip, i) => [clip, i]));
  }

  // [names and colours of the legend, colour number of a clip]; -1 stands for what is not coloured.
  colours() {
    const { data } = this, kind = this.form.elements.colour.value, view = this.choice.view();
    if (kind === "split") {
      const part = view?.part ?? [];
      return [data.parts.map((name, i) => [name, PALETTE[[0, 3, 1][i]]]), clip => part[clip] ?? -1];
    }
    if (kind === "right") {
      const place = this.tested(), given = view?.given?.[this.choice.mode()] ?? [];
      return [[["right", PALETTE[2]], ["wrong", PALETTE[1]]], clip => (place.has(clip) && given.length ? Number(given[place.get(clip)] !== data.truth[clip]) : -1)];
    }
    const of = kind === "artist" ? data.artist : data.truth.map(set => data.sets[set][0]);
    const names = kind === "artist" ? data.artists : data.labels;
    const counts = new Map();
    for (const clip of this.map.clip) counts.set(of[clip], (counts.get(of[clip]) ?? 0) + 1);
    const known = [...counts.keys()].filter(which => names[which]);
    const most = known.sort((a, b) => counts.get(b) - counts.get(a)).slice(0, PALETTE.length);
    const number = new Map(most.map((which, i) => [which, i]));
    return [most.map((which, i) => [names[which], PALETTE[i]]), clip => number.get(of[clip]) ?? -1];
  }

  paint() {
    const [names, number] = this.colours();
    this.palette = names.map(one => one[1]);
    this.groups = [OTHER, ...this.palette].map(() => []); // the points of each colour, drawn one colour after the other
    this.map.clip.forEach((clip, i) => this.groups[number(clip) + 1].push(i));
    const rest = this.groups[0].length ? [[{ genre: "other genres", artist: "other artists", split: "in no part", right: "not tested" }[this.form.elements.colour.value], OTHER]] : [];
    this.legend.replaceChildren(...[...names, ...rest].map(([name, colour]) => {
      const mark = element("i");
      mark.style.background = colour;
      return element("li", {}, mark, name_of(name));
    }));
    const what = this.form.elements.colour.selectedOptions[0].textContent;
    this.canvas.setAttribute("aria-label", `Map of ${this.map.clip.length} clips of ${this.map.representation}, coloured by ${what}. Arrow keys go from clip to clip, + and - zoom, 0 shows all, L lists the clips around${this.data.audio ? ", Enter plays" : ""}.`);
    this.draw();
  }

  find() {
    const text = this.form.elements.search.value.trim().toLowerCase();
    const match = this.data.artists.map(artist => text !== "" && artist.toLowerCase().includes(text));
    this.hits = text === "" ? null : this.map.clip.map(clip => match[this.data.artist[clip]]);
    const clips = this.hits?.filter(Boolean).length ?? 0;
    if (!this.lasso) this.show(this.hits ? this.map.clip.filter((clip, i) => this.hits[i]) : []);
    this.status.textContent = text === "" ? "" : `${plural(clips, "clip")} by ${plural(match.filter(Boolean).length, "artist")}`;
    this.paint();
  }

  places(width, height) {
    const pad = 14, { k, x, y } = this.zoom;
    return [i => x + k * (pad + ((width - 2 * pad) * this.map.x[i]) / 4095), i => y + k * (pad + ((height - 2 * pad) * this.map.y[i]) / 4095)];
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  magnify(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) { // 0: the whole map
    const { zoom } = this, k = factor === 0 ? 1 : Math.min(MOST_ZOOM, Math.max(1, zoom.k * factor));
    this.shift(k, x - ((x - zoom.x) * k) / zoom.k, y - ((y - zoom.y) * k) / zoom.k);
  }

  shift(k, x, y) { // the map's edges stay outside of the canvas
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.zoom = { k, x: Math.min(0, Math.max(width * (1 - k), x)), y: Math.min(0, Math.max(height * (1 - k), y)) };
    this.canvas.style.touchAction = k > 1 ? "none" : "";
    this.tip.hidden = true;
    this.draw();
  }

  press(event) {
    const [x, y] = this.at(event), draws = this.tool.getAttribute("aria-pressed") === "true";
    this.drag = { x, y, from: { ...this.zoom }, moved: false };
    this.lasso = draws ? [[x, y]] : this.lasso;
    if (draws) this.canvas.setPointerCapture(event.pointerId);
    else this.point(event);
  }

  move(event) {
    if (!this.drag || !event.buttons) return this.point(event);
    const [x, y] = this.at(event), { drag } = this;
    drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > 4;
    if (this.tool.getAttribute("aria-pressed") === "true") {
      this.lasso.push([x, y]);
      this.draw();
    } else if (drag.moved && this.zoom.k > 1) this.shift(this.zoom.k, drag.from.x + x - drag.x, drag.from.y + y - drag.y);
  }

  release() {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (this.tool.getAttribute("aria-pressed") === "true") {
      const inside = this.lasso.length > 2 ? this.inside(this.lasso) : [];
      this.lasso = null;
      this.status.textContent = `${plural(inside.length, "clip")} in the lasso`;
      this.show(inside);
      this.draw();
    } else if (!drag.moved && this.focus !== null) this.play(this.map.clip[this.focus]);
  }

  // The clips within a polygon of [x, y], by the even-odd rule.
  inside(polygon) {
    const [x, y] = this.places(this.canvas.clientWidth, this.canvas.clientHeight);
    return this.map.clip.filter((_, i) => {
      let within = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        const [ax, ay] = polygon[a], [bx, by] = polygon[b];
        if (ay > y(i) !== by > y(i) && x(i) < ((bx - ax) * (y(i) - ay)) / (by - ay) + ax) within = !within;
      }
      return within;
    });
  }

  // Lists the clips near a place of the canvas: what a lasso does, for the keyboard.
  around(x, y) {
    const corners = [...Array(16).keys()].map(i => (Math.PI * i) / 8).map(turn => [x + NEAR * Math.cos(turn), y + NEAR * Math.sin(turn)]);
    const inside = this.inside(corners);
    this.show(inside);
    this.status.textContent = `${plural(inside.length, "clip")} around, listed below`;
  }

  show(clips) {
    const { data } = this, names = set => data.sets[set].map(label => data.labels[label]).join(", ") || "none";
    const mode = this.choice.mode(), given = this.choice.view()?.given?.[mode], tested = this.tested();
    const columns = ["title", "artist", "labels", ...(given ? [mode] : [])];
    const rows = clips.slice(0, MOST_LISTED).map(clip => [data.titles[clip], data.artists[data.artist[clip]] || "unknown", names(data.truth[clip]), ...(given ? [tested.has(clip) ? names(given[tested.get(clip)]) : null] : [])]);
    const note = clips.length > MOST_LISTED ? `The first ${MOST_LISTED} of ${clips.length.toLocaleString("en")} clips.` : "";
    this.list.replaceChildren(...(clips.length ? [make_table(`${plural(clips.length, "clip")} of the map`, columns, rows, { note })] : []));
  }

  play(clip) {
    if (!this.data.audio || !this.data.files[clip]) return;
    this.player.hidden = false;
    this.player.src = `${this.data.audio.replace(/\/+$/, "")}/${this.data.files[clip]}`;
    this.player.play().then(() => (this.status.textContent = `Playing ${this.data.titles[clip]}`), () => (this.status.textContent = `${decodeURI(this.data.files[clip])} cannot be played from ${this.data.audio}`));
  }

  draw() { // once a frame, however much changed
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.render();
    });
  }

  render() {
    const { clientWidth: width, clientHeight: height } = this.canvas, scale = window.devicePixelRatio || 1;
    if (!width) return;
    Object.assign(this.canvas, { width: width * scale, height: height * scale });
    const pen = this.canvas.getContext("2d"), [x, y] = this.places(width, height);
    pen.scale(scale, scale);
    const size = Math.max(1.3, Math.min(4, 260 / Math.sqrt(this.map.clip.length))) * Math.min(2, Math.sqrt(this.zoom.k)), squares = this.map.clip.length > MANY;
    for (const faded of this.hits ? [true, false] : [false]) {
      const radius = this.hits && !faded ? size + 1.5 : size;
      this.groups.forEach((points, number) => {
        pen.fillStyle = number ? this.palette[number - 1] : OTHER;
        pen.globalAlpha = faded ? 0.07 : number ? 0.8 : 0.35;
        pen.beginPath();
        for (const i of points) {
          if (this.hits && this.hits[i] === faded) continue;
          const px = x(i), py = y(i);
          if (px < -9 || py < -9 || px > width + 9 || py > height + 9) continue;
          if (squares) pen.fillRect(px - radius, py - radius, 2 * radius, 2 * radius);
          else {
            pen.moveTo(px + radius, py);
            pen.arc(px, py, radius, 0, 7);
          }
        }
        pen.fill();
      });
    }
    pen.globalAlpha = 1;
    if (this.lasso) {
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.setLineDash([5, 4]);
      pen.beginPath();
      for (const [at, along] of this.lasso) pen.lineTo(at, along);
      pen.stroke();
      pen.setLineDash([]);
    }
    if (this.focus !== null) {
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x(this.focus), y(this.focus), size + 4, 0, 7);
      pen.stroke();
    }
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect(), [x, y] = this.places(box.width, box.height);
    this.drag &&= event.buttons ? this.drag : null;
    let best = null, nearest = 18 ** 2;
    for (let i = 0; i < this.map.clip.length; i++) {
      const far = (x(i) - (event.clientX - box.left)) ** 2 + (y(i) - (event.clientY - box.top)) ** 2;
      if (far < nearest && (!this.hits || this.hits[i])) [best, nearest] = [i, far];
    }
    this.name(best);
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") this.name(null);
    if (event.key === "Enter" && this.focus !== null) this.play(this.map.clip[this.focus]);
    const spot = this.focus === null ? [] : this.places(this.canvas.clientWidth, this.canvas.clientHeight).map(axis => axis(this.focus));
    if ("+-0".includes(event.key)) this.magnify({ "+": 1.5, "-": 1 / 1.5, 0: 0 }[event.key], ...spot);
    if (event.key.toLowerCase() === "l" && spot.length) this.around(...spot);
    if (step === undefined) return;
    event.preventDefault();
    const order = [...this.map.clip.keys()].filter(i => !this.hits || this.hits[i]).sort((a, b) => this.map.x[a] - this.map.x[b]);
    if (order.length) this.name(order[(order.indexOf(this.focus) + step + order.length) % order.length]);
  }

  name(i) {
    if (i === this.focus) return;
    this.focus = i;
    this.tip.hidden = i === null;
    if (i !== null) {
      const { data } = this, clip = this.map.clip[i], place = this.tested().get(clip), labels = set => data.sets[set].map(label => data.labels[label]).join(", ") || "none";
      const given = this.choice.view()?.given?.[this.choice.mode()];
      const line = (tag, text) => element(tag, {}, name_of(text));
      this.tip.replaceChildren(line("b", data.titles[clip]), line("span", data.artists[data.artist[clip]] || "unknown artist"), line("span", labels(data.truth[clip])));
      if (place !== undefined && given) this.tip.append(line("span", `${this.choice.mode()}: ${labels(given[place])}`));
      const [x, y] = this.places(this.canvas.clientWidth, this.canvas.clientHeight);
      this.tip.style.left = `${Math.max(4, Math.min(x(i) + 12, this.canvas.clientWidth - this.tip.offsetWidth - 6))}px`;
      this.tip.style.top = `${Math.max(4, Math.min(y(i) + 12, this.canvas.clientHeight - this.tip.offsetHeight - 6))}px`;
      this.status.textContent = this.tip.innerText.split("\n").filter(Boolean).join(" - ");
    }
    this.draw();
  }
}
