"use strict";
// Texts are set with textContent only: documents hold markup, and none of it may come alive.
const $ = (id) => document.getElementById(id);
const make = (tag, name = "", text = "", ...children) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== "") node.textContent = text;
  node.append(...children);
  return node;
};
const isolate = (tag, name, text) => make(tag, name, "", make("bdi", "", text));
const FIRST = 10; // documents shown of each list, as in page.css
const MINUS = "\u2212";
const signed = (value, digits = 2) => (value < 0 ? MINUS : "+") + Math.abs(value).toFixed(digits);
let turn = 0; // an answer that comes after another question was asked is dropped

async function ask(path, body) {
  const headers = {};
  if ($("key").value) headers.Authorization = "Bearer " + $("key").value;
  if (body) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const said = await reply.json().catch(() => ({}));
  if (reply.status === 401) $("key-row").hidden = false;
  if (!reply.ok) throw new Error(said.detail || said.message || "the server answered " + reply.status);
  return said;
}

function tell(text, wrong = false) {
  $("status").textContent = text;
  $("status").className = wrong ? "error" : "soft";
}

async function show(query, documents, about, started) {
  const texts = documents.map((d) => d.full_text);
  tell("scoring " + texts.length + (texts.length === 1 ? " document \u2026" : " documents \u2026"));
  const begin = performance.now();
  const said = await ask("/v1/rerank", { query, documents: texts, return_documents: false });
  if (started !== turn) return;
  const seconds = ((performance.now() - begin) / 1000).toFixed(2);
  tell(`${texts.length === 1 ? "1 document" : texts.length + " documents"} scored, the orders are below`);
  const order = said.results.map((r) => r.index);
  const score = new Map(said.results.map((r) => [r.index, r.relevance_score]));
  const rank = new Map(order.map((index, place) => [index, place + 1]));
  $("shown").textContent = query;
  $("old-name").textContent = about.query_id ? "Old order: the first stage" : "Old order: as pasted";
  const moved = order.filter((index, place) => index !== place).length;
  $("told").textContent = `${documents.length} documents, ${moved} of them moved, scored in ${seconds} s.` + (about.labeled ? " Grades are labels of people." : "");
  const parts = { score, rank, about, most: Math.max(...score.values(), 1e-9) };
  $("old").replaceChildren(...documents.map((d, i) => item(d, i, i + 1, rank.get(i), parts, false)));
  $("new").replaceChildren(...order.map((i, place) => item(documents[i], i, place + 1, i + 1, parts, true)));
  for (const list of document.querySelectorAll("ol.list")) list.classList.add("short");
  $("all").textContent = `Show all ${documents.length}`;
  $("all").hidden = documents.length <= FIRST;
  $("result").hidden = false;
  $("result").scrollIntoView({ block: "start" });
  $("shown").focus({ preventScroll: true }); // what reads aloud, and the tab key, go on from there
}

function item(doc, index, place, elsewhere, parts, isNew) {
  const box = make("div");
  if (doc.title) box.append(isolate("p", "title", doc.title));
  box.append(isolate("p", "clamp", doc.text || "(no text)"));
  const meta = make("div", "meta");
  meta.append(make("span", "value", parts.score.get(index).toFixed(3)));
  if (doc.label !== null && doc.label !== undefined) meta.append(make("span", doc.label > 0 ? "grade" : "grade zero", "grade " + doc.label));
  const change = isNew ? elsewhere - place : place - elsewhere;
  const word = isNew ? "was " : "now ";
  meta.append(make("span", change > 0 ? "up" : change < 0 ? "down" : "", change === 0 ? "same rank" : word + elsewhere));
  if (doc.doc_id) meta.append(isolate("span", "", doc.doc_id));
  if (isNew) {
    const bar = make("div", "bar", "", make("i"));
    bar.firstChild.style.width = (100 * parts.score.get(index)) / Math.max(1, parts.most) + "%";
    box.append(bar);
  }
  box.append(meta);
  if (isNew) box.append(details(doc, parts.about));
  const row = make("li", "", "", make("span", "rank", String(place)), box);
  row.dataset.index = index;
  return row;
}

function details(doc, about) {
  const opened = make("details", "fold", "", make("summary", "plain", about.judges && doc.records.length ? "The text, and what the judges said" : "The whole text"));
  opened.addEventListener("toggle", () => {
    if (!opened.open || opened.childElementCount > 1) return;
    opened.append(isolate("p", "", doc.full_text));
    if (about.judges && doc.records.length) opened.append(...judged(doc, about));
  });
  return opened;
}

function judged(doc, about) {
  const parts = [];
  if (doc.score !== null) parts.push(make("p", "aside", `Score from the judges: ${signed(doc.score)} \u00b1 ${(1.96 * doc.stderr).toFixed(2)} (95 %)`));
  const table = make("table", "said");
  const head = make("tr", "", "", make("th", "", "Judge"), make("th", "n", "won"), make("th", "n", "tied"), make("th", "n", "lost"));
  table.append(make("thead", "", "", head));
  const body = make("tbody");
  about.judges.forEach((judge, j) => body.append(make("tr", "", "", isolate("td", "", judge), ...doc.records[j].map((n) => make("td", "n", String(n))))));
  table.append(body);
  const more = make("button", "soft", "+ Every comparison of it");
  more.type = "button";
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const found = await ask(`/api/document?query_id=${encodeURIComponent(about.query_id)}&doc_id=${encodeURIComponent(doc.doc_id)}`);
      more.replaceWith(comparisons(found.comparisons));
    } catch (error) {
      more.textContent = error.message;
    }
  });
  return [...parts, table, more];
}

function comparisons(found) {
  const table = make("table", "said");
  table.append(make("caption", "", "From " + MINUS + "1 (the other document) to +1 (this one)."));
  const body = make("tbody");
  for (const one of found) {
    const said = make("td");
    for (const s of one.said) {
      const line = make("div", s.preference > 0 ? "up" : s.preference < 0 ? "down" : "soft", "", isolate("span", "", s.judge.replaceAll("_", " ")));
      line.append(" " + (s.preference === null ? "no answer" : signed(s.preference)));
      if (s.reasoning) line.append(isolate("div", "soft", s.reasoning));
      said.append(line);
    }
    body.append(make("tr", "", "", isolate("td", "", one.title || one.doc_id), said));
  }
  table.append(body);
  return table;
}

async function guarded(work) {
  const started = ++turn;
  const button = $("form").querySelector("button");
  button.disabled = true;
  try {
    await work(started);
  } catch (error) {
    if (started === turn) tell(error.message, true);
  } finally {
    if (started === turn) button.disabled = false;
  }
}

$("all").addEventListener("click", () => {
  for (const list of document.querySelectorAll("ol.list")) list.classList.remove("short");
  $("all").hidden = true;
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const texts = $("documents").value.split(/\n\s*\n/).map((t) => t.trim()).filter(Boolean);
  guarded(async (started) => {
    if (!texts.length) throw new Error("no documents");
    history.replaceState(null, "", location.pathname); // no question of the workspace any more
    await show($("query").value, texts.map((text) => ({ text, full_text: text, title: "", records: [] })), {}, started);
  });
});

function pick(id) {
  for (const button of document.querySelectorAll("#queries button")) {
    if (button.dataset.id === id) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  guarded(async (started) => {
    tell("reading the question \u2026");
    const found = await ask("/api/query?query_id=" + encodeURIComponent(id));
    if (started !== turn) return;
    $("query").value = found.text;
    $("documents").value = found.documents.map((d) => d.full_text.replace(/\n\s*\n/g, "\n")).join("\n\n");
    history.replaceState(null, "", "#q=" + encodeURIComponent(id));
    await show(found.text, found.documents, found, started);
  });
}

let searches = 0;
async function search() {
  const mine = ++searches;
  try {
    const found = await ask("/api/queries?words=" + encodeURIComponent($("words").value));
    if (mine !== searches) return;
    $("found").textContent = found.total > found.queries.length ? `${found.total} questions; the first ${found.queries.length}:` : `${found.total} questions:`;
    $("queries").replaceChildren(...found.queries.map((q) => {
      const button = make("button", "", "", make("bdi", "", q.text));
      button.type = "button";
      button.dataset.id = q.query_id;
      button.addEventListener("click", () => pick(q.query_id));
      return make("li", "", "", button);
    }));
  } catch (error) {
    if (mine === searches) $("found").textContent = error.message;
  }
}

document.addEventListener("pointerover", (event) => {
  const row = event.target.closest && event.target.closest(".list > li");
  for (const other of document.querySelectorAll(".list > li.same")) other.classList.remove("same");
  if (row) for (const other of document.querySelectorAll(`.list > li[data-index="${row.dataset.index}"]`)) other.classList.add("same");
});
$("key").addEventListener("change", () => $("words") && search());
if ($("words")) {
  let waiting = 0;
  $("words").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(search, 200); });
  search();
  const linked = new URLSearchParams(location.hash.slice(1)).get("q");
  if (linked) pick(linked);
}
