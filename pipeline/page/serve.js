"use strict";
// The page of `encore serve`. What comes from a store or a file is only ever put in as text.

const by = id => document.getElementById(id);
const state = { token: "", file: null, picture: null, url: null, asked: 0 };
const SHOWN = 8; // neighbours, and genres before the rest are folded away

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "role") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const text = value => node("bdi", { textContent: value });
const percent = value => `${(100 * value).toFixed(2)}%`;
const plural = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function fetched(path, options = {}) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.status === 401) by("token").hidden = false;
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || `The server answered with status ${answer.status}.`);
  }
  return answer;
}
const got = async (path, options) => (await fetched(path, options)).json();

function tell(message) {
  by("status").textContent = message;
  if (message) by("problem").hidden = true;
}
function fail(error) {
  tell("");
  by("problem").textContent = error.message;
  by("problem").hidden = false;
  by("problem").scrollIntoView({ behavior: "smooth", block: "nearest" });
}

// Asking

async function ask(fields, message) {
  const number = ++state.asked, form = new FormData();
  for (const [name, value] of Object.entries({ ...fields, similar: SHOWN, picture: 1 })) if (value) form.append(name, value);
  tell(message);
  by("result").setAttribute("aria-busy", "true");
  try {
    const answer = await got("predict", { method: "POST", body: form });
    if (number !== state.asked) return; // something else was asked meanwhile
    show(answer, fields.file);
    tell("");
    document.documentElement.dataset.answered = number;
  } catch (error) {
    if (number !== state.asked) return;
    by("result").hidden = true; // what stands there is of another song
    stop();
    fail(fields.file ? new Error(`${fields.file.name}: ${error.message}`) : error);
  } finally {
    by("result").removeAttribute("aria-busy");
  }
}
function ask_file(file) {
  state.file = file;
  by("again").hidden = false;
  by("again").replaceChildren("Ask again about ", text(file.name)); // a song of the collection may be shown since
  ask({ file, artist: by("upload").elements.artist.value.trim() }, `Listening to ${file.name} ...`);
}
const ask_song = (id, title) => ask({ song: id }, `Looking up ${title} ...`);

// The answer

function show({ head, song, picture, similar }, file) {
  by("result").hidden = false;
  by("title").replaceChildren(text(song.file));
  by("basis").textContent = basis(song, head);
  show_genres(song, head.target);
  show_near(by("near-songs"), similar?.songs);
  show_near(by("near-artists"), similar?.artists);
  state.picture = picture || null;
  show_picture();
  stop();
  if (file && by("audio").canPlayType(file.type)) play_blob(file, song.file, false);
  else if (song.listen) by("basis").append(" ", listen_button(song.song_id, song.file));
  by("result").focus({ preventScroll: true });
  by("result").scrollIntoView({ behavior: "smooth", block: "start" });
}

function basis(song, head) {
  const parts = [plural(song.clips, "clip")];
  if (song.neighbours === null) parts.push(`the mode ${head.mode} reads no artist`);
  else if (song.artist === null) parts.push(`no artist is known: ${head.representation === null ? "this mode knows nothing of the song" : "judged by the song alone"}`);
  else {
    const known = song.artist_is_stored ? "" : " (not in the collection)";
    parts.push(`artist ${song.artist_name}${known}: ${plural(song.neighbours, "other clip")}`);
    if (song.trust !== null) parts.push(`weight of the artist's labels ${song.trust.toFixed(2)}`);
  }
  if (song.song_id !== null) parts.push(`song ${song.song_id} of the collection${song.part === "train" ? ", which the head was trained on" : ""}`);
  return parts.join(" \u00b7 ");
}

function show_genres(song, target) {
  by("genres-title").textContent = target || "Genres";
  if (target) { // a number in its own unit: there is nothing that a bar would be a part of
    const apart = song.alone !== null && song.artist !== null ? `; ${song.alone[target].toPrecision(3)} by the song alone` : "";
    by("genres").replaceChildren(node("li", { className: "number" }, node("b", { textContent: song.scores[target].toPrecision(3) }), apart));
    by("legend").replaceChildren();
    return;
  }
  const entries = Object.entries(song.scores), weighs = song.alone !== null && song.artist !== null;
  const rows = entries.map(([label, score]) => {
    const alone = weighs ? song.alone[label] : score, shared = Math.min(alone, score), chosen = song.labels.includes(label);
    const track = node("div", { className: "track", "aria-hidden": "true" });
    const part = (name, width) => {
      const bar = node("div", { className: name });
      bar.style.width = percent(width);
      track.append(bar);
    };
    part("alone", shared);
    if (score > alone) part("added", score - alone);
    if (alone > score) part("taken", alone - score);
    const change = score - alone;
    const words = weighs ? `${alone.toFixed(2)} by the song alone, ${change < 0 ? "minus" : "plus"} ${Math.abs(change).toFixed(2)} by its artist` : "";
    const row = node("li", { className: chosen ? "chosen" : "", title: words }, text(label), track, node("span", { className: "value", textContent: score.toFixed(2) }));
    row.append(node("span", { className: "seen", textContent: `${chosen ? "chosen. " : ""}${words}` }));
    return row;
  });
  const list = by("genres");
  list.replaceChildren(...rows.slice(0, SHOWN));
  if (rows.length > SHOWN) {
    const more = node("button", { type: "button", className: "listen", textContent: `${rows.length - SHOWN} more` });
    more.addEventListener("click", () => list.replaceChildren(...rows));
    list.append(node("li", { className: "more" }, more));
  }
  const key = (name, words) => node("span", {}, node("i", { className: name }), words);
  const legend = weighs ? [key("alone", "the song alone"), key("added", "added by its artist"), key("taken", "taken away by its artist")] : [key("alone", "score")];
  by("legend").replaceChildren(...legend, node("span", {}, node("b", { textContent: "bold" }), ": chosen"));
}

function show_near(list, near) {
  if (!near || !near.similar.length) {
    list.replaceChildren(node("li", { className: "note", textContent: near ? "There are none." : "This head reads no representation." }));
    return;
  }
  list.replaceChildren(...near.similar.map(entry => {
    const row = node("li"), cosine = node("span", { className: "cosine", title: "cosine", textContent: entry.similarity.toFixed(2) });
    if (list.id === "near-artists") {
      row.append(node("span", { className: "name" }, node("b", {}, text(entry.artist || entry.id)), node("br"), node("span", { className: "by", textContent: plural(entry.clips, "clip") })), cosine);
      return row;
    }
    const title = entry.title || entry.id, labels = entry.labels.join(", ");
    const name = node("button", { type: "button", className: "name" }, node("b", {}, text(title)), node("br"), node("span", { className: "by" }, text([entry.artist, labels].filter(Boolean).join(" \u00b7 "))));
    name.addEventListener("click", () => ask_song(entry.id, title));
    row.append(name, cosine);
    if (entry.listen) row.append(listen_button(entry.id, title));
    return row;
  }));
}

// Listening

function listen_button(id, title) {
  const button = node("button", { type: "button", className: "listen", textContent: "Listen", "aria-label": `Listen to ${title}` });
  button.addEventListener("click", () => play_song(id, title));
  return button;
}
async function play_song(id, title) {
  try {
    const answer = await fetched(`listen?song=${encodeURIComponent(id)}`);
    play_blob(await answer.blob(), title, true);
  } catch (error) {
    fail(error);
  }
}
function play_blob(blob, title, now) {
  stop();
  state.url = URL.createObjectURL(blob);
  by("audio").src = state.url;
  by("playing").replaceChildren(text(title));
  by("player").hidden = false;
  if (now) by("audio").play().catch(() => {}); // a browser may want a click first
}
function stop() {
  by("audio").pause();
  by("audio").removeAttribute("src");
  if (state.url) URL.revokeObjectURL(state.url);
  state.url = null;
  by("player").hidden = by("playhead").hidden = true;
}

// The picture

const NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
const pitch_name = pitch => `${NOTES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;

function show_picture() {
  const picture = state.picture;
  by("picture").hidden = !picture;
  if (!picture) return;
  const { image, wave, kind } = picture;
  by("length").textContent = clock(picture.duration_s);
  by("what").textContent = kind === "midi" ? `piano roll, ${pitch_name(image.low)} to ${pitch_name(image.high)}` : `waveform and mel spectrogram, 0 to ${(image.high / 1000).toFixed(1)} kHz`;
  by("wave").hidden = !wave;
  by("wave").setAttribute("aria-label", "Waveform");
  by("image").setAttribute("aria-label", kind === "midi" ? "Piano roll" : "Mel spectrogram");
  if (wave) draw_wave(by("wave"), wave);
  draw_image(by("image"), image, kind);
}
function draw_wave(canvas, wave) {
  const height = 112, context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [2 * wave.length, height];
  const loudest = Math.max(1e-6, ...wave.flat().map(Math.abs));
  context.fillStyle = colour("--blue");
  wave.forEach(([low, high], column) => {
    const top = height / 2 * (1 - high / loudest), bottom = height / 2 * (1 - low / loudest);
    context.fillRect(2 * column, top, 2, Math.max(1, bottom - top));
  });
}
const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
function draw_image(canvas, image, kind) {
  const bytes = Uint8Array.from(atob(image.data), letter => letter.charCodeAt(0));
  const stops = ["--card", "--blue", "--text"].map(name => channels(colour(name)));
  const context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [image.columns, image.rows];
  const pixels = context.createImageData(image.columns, image.rows);
  for (let row = 0; row < image.rows; row++) for (let column = 0; column < image.columns; column++) {
    const value = bytes[row * image.columns + column] / 255, at = 4 * ((image.rows - 1 - row) * image.columns + column);
    // Notes are there or not; a spectrogram goes through the middle colour.
    const place = kind === "midi" ? (value ? 0.55 + 0.45 * value : 0) : 2 * value ** 2, first = Math.min(1, Math.floor(place));
    for (let i = 0; i < 3; i++) pixels.data[at + i] = stops[first][i] + (place - first) * (stops[first + 1][i] - stops[first][i]);
    pixels.data[at + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  canvas.style.imageRendering = kind === "midi" ? "pixelated" : "auto";
}

// The songs of the collection

let waiting = 0;
async function list_songs() {
  const search = by("find").elements.search.value.trim(), number = ++waiting;
  try {
    const answer = await got(`songs?count=50&search=${encodeURIComponent(search)}`);
    if (number !== waiting) return;
    by("songs").replaceChildren(...answer.songs.map(song => {
      const title = song.title || song.id;
      const button = node("button", { type: "button" }, node("b", {}, text(title)), " ", node("span", {}, text(song.artist || "unknown artist")));
      button.addEventListener("click", () => ask_song(song.id, title));
      return node("li", {}, button);
    }));
    const shown = answer.songs.length < answer.count ? `the first ${answer.songs.length} of ` : "";
    by("count").textContent = `${shown}${plural(answer.count, "song")}`;
  } catch (error) {
    fail(error);
  }
}
async function start() {
  try {
    const about = await got("about");
    by("head").replaceChildren(text(about.title), ` \u00b7 mode ${about.mode}, regime ${about.regime}`, " ", about.synthetic ? node("span", { className: "badge", textContent: "synthetic" }) : "");
    document.title = `${about.title} - Encore`;
    if (about.reads) by("reads").textContent = `${about.reads === "midi" ? "MIDI" : "A recording"}, ${about.most_mib} MiB and ${about.most_minutes} minutes at most. It is read on the machine that runs this server, and kept nowhere.`;
    else by("reads").textContent = about.refusal || "";
    if (about.reads === "midi") by("upload").elements.artist.placeholder = "who made it"; // no tags say so
    await list_songs();
  } catch (error) {
    fail(error);
  }
  document.documentElement.dataset.ready = "yes";
}

// What a person does

const upload = by("upload"), drop = by("drop");
upload.elements.file.addEventListener("change", event => { if (event.target.files.length) ask_file(event.target.files[0]); });
upload.addEventListener("submit", event => { event.preventDefault(); if (state.file) ask_file(state.file); });
for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]])
  drop.addEventListener(name, event => { event.preventDefault(); drop.classList.toggle("over", over); });
for (const name of ["dragover", "drop"]) addEventListener(name, event => event.preventDefault()); // a miss opens no file
drop.addEventListener("drop", event => { const [file] = event.dataTransfer.files; if (file) ask_file(file); });
let typing;
by("find").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(list_songs, 150); });
by("find").addEventListener("submit", event => { event.preventDefault(); list_songs(); });
by("token").addEventListener("submit", event => {
  event.preventDefault();
  state.token = event.target.elements.token.value;
  by("token").hidden = true;
  by("problem").hidden = true;
  start();
});
by("audio").addEventListener("timeupdate", () => {
  const { currentTime, duration } = by("audio"), head = by("playhead");
  head.hidden = !(duration > 0) || by("playing").textContent !== by("title").textContent;
  head.style.left = percent(currentTime / duration || 0);
});
by("canvases").addEventListener("click", event => {
  const box = by("canvases").getBoundingClientRect(), { duration } = by("audio");
  if (duration > 0 && by("playing").textContent === by("title").textContent) by("audio").currentTime = duration * (event.clientX - box.left) / box.width;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show_picture);

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  state.token = given;
  history.replaceState(null, "", location.pathname); // it is in no history and on no screen
}
start();
