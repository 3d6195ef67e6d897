"use strict";
// What a reader chooses, and what follows from it.

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const per_cent = value => (value === null || value === undefined ? null : [value, (100 * value).toFixed(1)]);

function chart_of(figure) {
  const rows = [...figure.querySelectorAll("tbody tr")].map(row => [...row.cells].map(cell => (cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v))));
  if (!rows.length) return;
  if (figure.dataset.chart === "profiles") return; // drawn for the mode that is looked at
  const title = figure.querySelector("h4").textContent, number = value => (typeof value === "number" ? value : null);
  figure.querySelector(".chart").replaceChildren(
    figure.dataset.chart === "bars"
      ? bars(title, rows.map(row => row[0]), rows.map(row => row[1]))
      : intervals(title, rows.map(row => [row[0], row[1], number(row[2]), number(row[3])])),
  );
}

// How every mode's score runs over kinds of clips; two modes stand out.
function profile(figure, mode, base) {
  const head = [...figure.querySelectorAll("thead th")].map(cell => cell.textContent);
  const last = head.findIndex(text => text === "deviation");
  const names = head.slice(1, last < 0 ? head.length : last), scale = figure.classList.contains("heat") ? 100 : 1;
  const rows = [...figure.querySelectorAll("tbody tr")].map(row => [row.cells[0].textContent.trim(), names.map((_, i) => (row.cells[i + 1].dataset.v === undefined ? null : scale * Number(row.cells[i + 1].dataset.v)))]);
  const place = figure.querySelector(".chart");
  place.replaceChildren(...(names.length > 1 ? [profiles(figure.querySelector("h4").textContent, names, rows, mode, base, scale)] : []));
}

class Collection {
  constructor(section, data) {
    Object.assign(this, { section, data, form: section.querySelector("form.choose") });
    if (this.form) {
      const best = () => Object.entries(this.view().scores ?? {}).map(([mode, values]) => [values.reduce((a, b) => a + b, 0), mode]).sort((a, b) => b[0] - a[0])[0]?.[1];
      this.form.addEventListener("submit", event => event.preventDefault());
      this.form.elements.view.addEventListener("change", () => this.open(this.mode() || best()));
      this.form.elements.mode.addEventListener("change", () => this.show());
      this.open(best());
    }
    const place = section.querySelector("canvas")?.closest("section");
    if (place) this.map = new CollectionMap(place, data, this);
    this.follow();
  }

  view() { return this.form ? this.data.views[Number(this.form.elements.view.value)] : undefined; }

  mode() { return this.form?.elements.mode.value ?? ""; }

  open(mode) {
    const modes = Object.keys(this.view().modes), select = this.form.elements.mode;
    select.replaceChildren(...modes.map(name => element("option", { value: name }, name)));
    if (modes.includes(mode)) select.value = mode;
    for (const view of this.section.querySelectorAll(".view")) view.hidden = view.dataset.view !== this.form.elements.view.value;
    this.follow();
    this.show();
  }

  follow() { // the map of the representation that is looked at
    if (!this.map) return;
    const which = this.data.maps.findIndex(map => map.representation === this.view()?.representation);
    if (which >= 0) this.map.form.elements.map.value = which;
    this.map.open();
  }

  names(numbers) { return numbers.map(label => this.data.labels[label]).join(", ") || "none"; }

  show() {
    const view = this.view(), mode = this.mode(), details = view.modes[mode];
    const shown = [...this.section.querySelectorAll(".view")].filter(node => !node.hidden);
    for (const figure of shown.flatMap(node => [...node.querySelectorAll('figure[data-chart="profiles"]')])) profile(figure, mode, view.base);
    this.section.querySelector(".details").replaceChildren(...(details ? this.details(details, mode) : []));
    this.section.querySelector(".hard").replaceChildren(...(details ? this.hard(view, details, mode) : [element("p", {}, "There are no runs to look at here.")]));
    this.map?.paint();
  }

  details(details, mode) {
    const labels = make_table(`${mode}: by label`, ["label", "precision", "recall", "F1", "test clips"], details.labels.map((row, i) => [this.data.labels[i], ...row.slice(0, 3).map(per_cent), row[3]]), { note: "Per cent; - where not defined: no test clip carries the label, or none was given it." });
    const parts = element("div", { class: "two" }, labels, this.calibration(details, mode));
    return [element("h3", {}, `The mode ${mode}`), parts, this.gate(details, mode), this.confusion(details, mode), this.curves(details, mode)].filter(Boolean);
  }

  calibration(details, mode) {
    const { calibration } = details;
    const figure = make_table(`${mode}: calibration`, ["mean score", "share that was true", "decisions"], calibration.bins.map(([mean, share, count]) => [per_cent(mean), per_cent(share), count]), { note: `Per cent. On the diagonal a score is a probability; expected calibration error ${(100 * calibration.error).toFixed(1)}.` });
    figure.querySelector(".scroll").before(reliability(`${mode}: calibration`, calibration));
    return figure;
  }

  gate(details, mode) {
    if (!details.gate?.length) return null;
    const number = value => [value, value.toFixed(2)];
    const figure = make_table(`${mode}: weight of the artist by agreement`, ["songs that agree", "mean weight", "first quartile", "third quartile", "test clips"], details.gate.map(([name, mean, low, high, count]) => [name, number(mean), number(low), number(high), count]), { note: "By the share of the artist's training clips that carry the test clip's own labels, which the head does not know; first seed, clips whose artist was in training. At 0 the artist counts for nothing; weights may exceed 1." });
    figure.querySelector(".scroll").before(spans(`${mode}: weight of the artist by agreement`, details.gate));
    return figure;
  }

  confusion(details, mode) {
    const { labels, counts } = details.confusion, of = label => this.data.labels[label];
    if (!labels.length) return null;
    const left = this.data.labels.length - labels.length;
    const figure = make_table(`${mode}: which labels are given for which`, ["true \\ given", ...labels.map(of), "none"], counts.map((row, i) => [of(labels[i]), ...row]), {
      kind: "confusion",
      note: `Test clips that carry the row's label and were given the column's; clips with several labels count for each pair.${left > 0 ? ` The ${labels.length} labels that most test clips carry; ${left} more are left out.` : ""}`,
    });
    figure.querySelector("table").style.setProperty("--columns", labels.length + 1);
    for (const [i, row] of [...figure.querySelectorAll("tbody tr")].entries()) {
      const support = Math.max(1, details.labels[labels[i]][3]);
      for (const cell of row.querySelectorAll("td")) cell.style.background = `rgba(var(--heat), ${Math.min(0.75, (0.75 * Number(cell.dataset.v)) / support).toFixed(3)})`;
    }
    return figure;
  }

  curves(details, mode) {
    if (!details.curves.length) return element("p", { class: "note" }, `${mode} counts or searches; it has no learning curve.`);
    const colour = i => PALETTE[i % PALETTE.length];
    const losses = details.curves.flatMap((curve, i) => [
      { name: `${curve.name}, training loss`, xs: curve.epochs, ys: curve.loss, colour: colour(i), dash: "4 3" },
      { name: `${curve.name}, validation loss`, xs: curve.epochs, ys: curve.validation_loss, colour: colour(i) },
    ]);
    const scores = details.curves.map((curve, i) => ({ name: curve.name, xs: curve.epochs, ys: curve.validation, colour: colour(i) }));
    const figure = (title, chart, note) => element("figure", {}, element("h4", {}, title), chart, element("p", { class: "note" }, note));
    const best = details.curves.map(curve => `${curve.best} (${curve.name})`).join(", ");
    return element("div", { class: "two" },
      figure(`${mode}: loss`, lines(`${mode}: loss by epoch`, losses, "epoch", "loss"), "Dashed: training; solid: validation. A colour is a seed."),
      figure(`${mode}: validation score`, lines(`${mode}: validation ${this.data.metric} by epoch`, scores, "epoch", this.data.metric), `Best epoch: ${best}.`));
  }

  hard(view, details, mode) {
    const row = (song, ...more) => [song.title, song.artist || "unknown", this.names(song.labels), ...more];
    const tables = [
      make_table(`${mode}: surest and wrong`, ["title", "artist", "labels", "given", "score"], details.wrong.map(song => row(song, this.names(song.given), per_cent(song.score))), { note: "A label that is not the song's, with the highest scores." }),
    ];
    if (details.against.length) tables.push(make_table(`${mode} and ${view.base}: most different`, ["title", "artist", "labels", mode, view.base], details.against.map(song => row(song, per_cent(song.here), per_cent(song.there))), { note: "The score that each gives to the song's own labels." }));
    if (view.doubtful?.length) tables.push(make_table("Likely label errors", ["title", "artist", "labels", "rather", "margin"], view.doubtful.map(song => row(song, this.names(song.given), per_cent(song.score))), { note: "The modes that hear songs agree, in the mean, on another label. Look before you correct: hard songs are here too." }));
    return tables;
  }
}

for (const figure of document.querySelectorAll("figure.table")) {
  bring_to_life(figure);
  if (figure.dataset.chart) chart_of(figure);
}
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(node => (node.open = true));
  window.encore?.forEach(collection => collection.map?.render());
});
unpack(document.getElementById("data").textContent).then(all => {
  window.encore = [...document.querySelectorAll("section.collection")].map((section, i) => new Collection(section, all[i]));
  document.documentElement.dataset.ready = "yes";
});
