// The page of `curate review`: shows one row of the sample at a time and sends what its reviewer decides.
//
// Whatever a model or a person wrote becomes text nodes, never markup; the server's policy forbids the rest. A decision
// counts as made when the server says that it is on the disk. Until then it is kept here, as an edit is until it is
// saved or dropped, and outlives a reload.

const WAIT = 250; // ms of quiet before an edit is checked
const LOOK = 5000; // ms between looks at whether files have changed
const STATES = {
  open: ["○", "open"],
  accepted: ["✓", "accepted"],
  rejected: ["✕", "rejected"],
  edited: ["✎", "edited"],
  stale: ["↻", "stale: the row has changed since"],
};
const VERDICTS = { accept: "Accepted", reject: "Rejected", edit: "Edited" };
const STATE_AFTER = { accept: "accepted", reject: "rejected", edit: "edited" };
const WHY = {
  chance: "Drawn by chance from its topic, type and difficulty.",
  risk: "Drawn for what may be wrong with it:",
  decided: "Not in the sample now, but reviewed before.",
};
const MARKS = {
  rigor: "Rigor",
  difficulty: "Fits its difficulty",
  innovation: "Innovation",
  clarity: "Clarity",
  educational_value: "Educational value",
};
const LETTERS = ["A", "B", "C", "D"];
// Controls, directions and other characters without a shape of their own: shown by their number, and without effect.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f" +
    "\\ufeff\\ufff9-\\ufffb\\ue000-\\uf8ff]",
  "gu",
);

const $ = (id) => document.getElementById(id);

let list = { reviewer: "", version: "", rows: [], topics: {}, difficulties: {}, types: {}, reasons: [], risks: {} };
let shown = []; // the rows that pass the filters, in order
let row = null; // the row on the page, as the server last gave it
let busy = false; // a decision is under way
let moving = 0; // rows under way: what is on the page is about to be another
let behind = false; // the row has changed while it was edited
let lost = false; // the server did not answer, or cannot read its files
let loading = 0; // the number of the last row asked for: an earlier answer that comes later is not shown

// --- making elements ---------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A text as nodes: characters that cannot be seen, or would turn the line around, as their numbers. */
function words(text) {
  const nodes = document.createDocumentFragment();
  let from = 0;
  for (const found of text.matchAll(UNSEEN)) {
    nodes.append(text.slice(from, found.index));
    const number = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    nodes.append(el("span", { class: "unseen", title: "a character that is not seen" }, `U+${number}`));
    from = found.index + found[0].length;
  }
  nodes.append(text.slice(from));
  return nodes;
}

function text(tag, content, attributes = {}) {
  return el(tag, { dir: "auto", ...attributes }, words(content));
}

function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

function say(message) {
  $("said").textContent = message;
}

function notice(message) {
  $("notice").hidden = !message;
  $("notice").textContent = message;
}

// --- asking the server -------------------------------------------------------------------------------------------

class Trouble extends Error {
  constructor(message, status = 0, value = null) {
    super(message);
    this.status = status;
    this.value = value;
  }
}

async function ask(path, body) {
  const request =
    body === undefined
      ? {}
      : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(path, request);
  } catch {
    throw new Trouble("The server does not answer. Start `curate review` again and open its address in this tab.");
  }
  const value = await reply.json().catch(() => null);
  if (reply.status === 403) {
    throw new Trouble("The server was started anew. Open the address that it printed in this tab.", 403);
  }
  if (!reply.ok || value === null) {
    throw new Trouble(value?.error ?? `The server answered ${reply.status}.`, reply.status, value);
  }
  return value;
}

// --- what is kept until it is saved ------------------------------------------------------------------------------

function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(`${list.reviewer}:${name}`));
  } catch {
    return null;
  }
}

function keep(name, value) {
  const key = `${list.reviewer}:${name}`;
  if (value === null) sessionStorage.removeItem(key);
  else sessionStorage.setItem(key, JSON.stringify(value));
}

const unsent = () => kept("unsent") ?? [];
const draft = (id) => kept(`draft:${id}`);

function keepUnsent(decisions) {
  keep("unsent", decisions.length ? decisions : null);
}

// --- the list ----------------------------------------------------------------------------------------------------

async function loadList() {
  list = await ask("/list");
  $("reviewer").textContent = `by ${list.reviewer}`;
  const named = (codes) => codes.map((code) => [code, code.replaceAll("_", " ")]);
  const slugs = [...new Set([...Object.keys(list.topics), ...list.rows.map((item) => item.topic)])];
  choices($("by-topic"), slugs.map((slug) => [slug, list.topics[slug] ?? slug]), (item, id) => item.topic === id);
  choices($("by-state"), named(Object.keys(STATES)), (item, id) => item.state === id);
  choices($("by-risk"), named(Object.keys(list.risks)), (item, id) => item.risks.includes(id));
  showList();
}

/** Fill a filter with what there is and how often, keeping what is chosen. */
function choices(select, named, test) {
  const chosen = select.value;
  const counted = named
    .map(([id, name]) => [id, name, list.rows.filter((item) => test(item, id)).length])
    .filter(([id, , count]) => count || id === chosen);
  fill(
    select,
    el("option", { value: "" }, `all (${list.rows.length})`),
    ...counted.map(([id, name, count]) => el("option", { value: id }, `${name} (${count})`)),
  );
  select.value = chosen;
}

function showList() {
  const topic = $("by-topic").value;
  const state = $("by-state").value;
  const risk = $("by-risk").value;
  const part = $("by-text").value.trim().toLowerCase();
  shown = list.rows.filter(
    (item) =>
      (!topic || item.topic === topic) &&
      (!state || item.state === state) &&
      (!risk || item.risks.includes(risk)) &&
      (!part || item.id.toLowerCase().includes(part) || item.question.toLowerCase().includes(part)),
  );
  fill($("rows"), ...shown.map(entry));
  const all = `${list.rows.length} ${list.rows.length === 1 ? "row" : "rows"}`;
  $("found").textContent = shown.length === list.rows.length ? all : `${shown.length} of ${all}`;
  $("clear").hidden = !(topic || state || risk || part);
  showCounts();
}

function entry(item) {
  const waiting = unsent().some((decision) => decision.id === item.id);
  const [glyph, means] = waiting ? ["!", "not saved yet"] : STATES[item.state];
  const current = row !== null && row.id === item.id;
  return el(
    "li",
    {},
    el(
      "button",
      {
        type: "button",
        "data-id": item.id,
        "data-state": waiting ? "unsent" : item.state,
        "aria-current": current ? "true" : false,
        onclick: () => {
          openList(false);
          show(item.id);
        },
      },
      el("span", { class: "glyph", "aria-hidden": "true" }, glyph),
      el("span", { class: "hidden" }, `${means}: `),
      text("span", item.question, { class: "stem" }),
      el(
        "span",
        { class: "where" },
        `${list.topics[item.topic] ?? item.topic} · ${list.types[item.type] ?? item.type}`,
        draft(item.id) ? el("span", { class: "chip" }, "unsaved edit") : null,
      ),
    ),
  );
}

function showCounts() {
  const count = (state) => list.rows.filter((item) => item.state === state).length;
  const total = list.rows.length;
  const decided = total - count("open") - count("stale");
  $("bar").max = Math.max(total, 1);
  $("bar").value = decided;
  fill(
    $("counts"),
    el("strong", {}, `${decided} of ${total}`),
    " decided",
    ...["accepted", "rejected", "edited", "stale"]
      .filter(count)
      .map((state) =>
        el(
          "span",
          { class: "count", "data-state": state, title: state },
          ` ${STATES[state][0]} ${count(state)}`,
          el("span", { class: "word" }, ` ${state}`),
        ),
      ),
  );
}

function mark(id) {
  for (const button of $("rows").querySelectorAll("button")) {
    if (button.dataset.id === id) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  }
}

function openList(open) {
  document.body.classList.toggle("list-open", open);
  $("show-list").setAttribute("aria-expanded", String(open));
}

// --- moving ------------------------------------------------------------------------------------------------------

const undecided = (item) => item.state === "open" || item.state === "stale";
const at = (id) => shown.findIndex((item) => item.id === id);

function step(by) {
  if (!shown.length) return say("No row passes the filters.");
  const here = row === null ? -1 : at(row.id);
  const there = here < 0 ? 0 : here + by;
  if (there < 0) return say("This is the first row.");
  if (there >= shown.length) return say("This is the last row.");
  return show(shown[there].id);
}

/** The next undecided row behind this one, else the first; undefined if all are decided. */
function nextUndecided(id) {
  const here = at(id);
  return [...shown.slice(here + 1), ...shown.slice(0, Math.max(here, 0))].find(undecided);
}

function goUndecided() {
  const next = nextUndecided(row?.id);
  if (next) return show(next.id);
  return say(row && undecided(row) ? "This is the last that is undecided." : "All rows here are decided.");
}

async function show(id, focus = true) {
  const number = ++loading;
  moving += 1;
  try {
    const found = await ask(`/row?id=${encodeURIComponent(id)}`);
    if (number !== loading) return;
    row = found;
    notice("");
    settled();
  } catch (trouble) {
    if (number === loading) complain(trouble);
    return;
  } finally {
    moving -= 1;
  }
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  render();
  mark(id);
  scrollTo(0, 0);
  if (focus) $("row").focus({ preventScroll: true });
}

// --- the row -----------------------------------------------------------------------------------------------------

function render() {
  const record = row.record;
  const place = at(row.id);
  const [glyph, means] = STATES[row.state];
  $("row").setAttribute("aria-label", `Row ${place + 1} of ${shown.length}, ${row.state}`);
  fill(
    $("row"),
    el(
      "p",
      { class: "meta" },
      el("span", { class: "badge", "data-state": row.state, title: means }, `${glyph} ${row.state}`),
      el("span", {}, place < 0 ? "not among the rows shown" : `${place + 1} / ${shown.length}`),
      el("span", {}, list.topics[row.topic] ?? row.topic),
      el("span", {}, list.difficulties[row.difficulty] ?? row.difficulty),
      el("span", {}, list.types[row.type] ?? row.type),
    ),
    decisions(),
    el(
      "div",
      { class: "sheet" },
      el(
        "div",
        { class: "reading" },
        text("h1", record.question, { class: "question" }),
        el("ol", { class: "options" }, ...record.options.map(option)),
        el("section", { class: "chain", "aria-label": "Chain" }, ...chain(record)),
      ),
      el("div", { class: "known" }, why(), checks(), verification(), judgement(), provenance()),
    ),
  );
}

function option(content, index) {
  const right = LETTERS[index] === row.record.answer;
  return el(
    "li",
    { class: right ? "right" : false },
    el("span", { class: "letter" }, LETTERS[index]),
    text("span", content),
    right ? el("span", { class: "tag" }, "✓ answer") : null,
  );
}

function chain(record) {
  return [
    block("First thoughts", record.think ? text("p", record.think) : missing()),
    block("Steps", el("ol", { class: "steps" }, ...record.steps.map((one) => text("li", one)))),
    block("Reflection", record.reflection ? text("p", record.reflection) : missing()),
    record.adjustment === null ? null : block("Adjustment", text("p", record.adjustment)),
    block("Output", el("p", {}, el("strong", { class: "letter" }, record.answer))),
  ].filter(Boolean);
}

const missing = () => el("p", { class: "faint" }, "none");
const block = (name, body) => el("div", { class: "block" }, el("h2", {}, name), body);
const card = (name, ...body) => el("section", { class: "card" }, el("h2", {}, name), ...body);

function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== "");
  return el("dl", {}, ...shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, words(String(value)))]));
}

function why() {
  const lines = row.risks.map((risk) =>
    el("li", {}, el("strong", {}, risk.replaceAll("_", " ")), `: ${list.risks[risk] ?? ""}`),
  );
  const also = lines.length && row.sampled !== "risk" ? " What may be wrong with it:" : "";
  return card("Why this row", el("p", {}, WHY[row.sampled] + also), lines.length ? el("ul", {}, ...lines) : null);
}

function checks() {
  const { passed, failed } = row.checks;
  if (!failed.length) return card("Checks", el("p", { class: "fine" }, `✓ passes all ${passed}`));
  return card("Checks", problems(failed), el("p", { class: "faint" }, `${passed} others pass`));
}

function problems(failed) {
  return el(
    "ul",
    { class: "problems" },
    ...failed.map(({ code, detail }) => el("li", {}, el("code", {}, code), " ", words(detail))),
  );
}

function verification() {
  const said = row.verify;
  if (said === null) return card("Verification", el("p", { class: "faint" }, "not asked"));
  const agrees = said.agreed === said.answers.length;
  const outcome = said.answers.length
    ? el(
        "p",
        { class: agrees ? "fine" : "poor" },
        `${agrees ? "✓" : "✕"} ${said.agreed} of ${said.answers.length} answered ${said.answer}` +
          (agrees ? "" : `: ${said.answers.join(", ")}`),
      )
    : el("p", { class: "faint" }, "no valid reply");
  const other = said.answer === row.record.answer ? null : el("p", { class: "poor" }, "asked about another answer");
  return card("Verification", outcome, other, facts([["by", said.teacher], ["fault", said.fault]]));
}

function judgement() {
  const said = row.judge;
  if (said === null) return card("Judge", el("p", { class: "faint" }, "not asked"));
  if (said.judgement === null) {
    const by = facts([["by", said.teacher], ["fault", said.fault]]);
    return card("Judge", el("p", { class: "faint" }, "no valid reply"), by);
  }
  const marks = Object.entries(MARKS).flatMap(([code, name]) => {
    const value = said.judgement[code];
    const rest = el("i", {}, "●".repeat(5 - value));
    const dots = el("span", { class: "dots", "aria-hidden": "true" }, "●".repeat(value), rest);
    return [el("dt", {}, name), el("dd", { class: value < 3 ? "poor" : false }, dots, ` ${value}`)];
  });
  return card(
    `Judge: ${said.mean.toFixed(1)}`,
    el("dl", { class: "marks" }, ...marks),
    text("blockquote", said.judgement.feedback),
    facts([["by", said.teacher]]),
  );
}

function provenance() {
  return card(
    "Provenance",
    facts([
      ["id", row.id],
      ["topic", row.topic],
      ["difficulty", row.difficulty],
      ["type", row.type],
      ["teacher", row.teacher],
      ["repairs", row.repairs.length ? row.repairs.join(", ") : "none"],
      ["content", row.content],
    ]),
  );
}

/** What this reviewer decided about the row before, the newest first. */
function decisions() {
  if (!row.decisions.length) return null;
  return el("section", { class: "decisions", "aria-label": "Your decisions" }, ...row.decisions.map(decision));
}

function decision(made) {
  const said = [VERDICTS[made.verdict], made.reason, when(made.at)].filter(Boolean).join(" · ");
  const verdict = el("p", {}, el("strong", {}, said), made.note ? ": " : "", made.note ? text("q", made.note) : null);
  const told = (line, open) =>
    made.changes.length ? el("details", { open }, el("summary", {}, line), diff(made.changes)) : null;
  if (!made.stale) {
    const was = told("What you changed", false);
    return el("div", { class: "decision", "data-state": STATE_AFTER[made.verdict] }, verdict, was);
  }
  const again =
    made.item === null
      ? null
      : el("button", { type: "button", onclick: () => startEdit(made.item) }, "Edit the row to be so again");
  return el(
    "div",
    { class: "decision", "data-state": "stale" },
    verdict,
    el("p", {}, "↻ Stale: the row has changed since, so this no longer counts. Decide anew."),
    told("The row as it is now, and your edit", true),
    again,
  );
}

const when = (at) => at.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");

function diff(changes) {
  const runs = ([kind, part]) => {
    if (kind === "+") return text("ins", part);
    return kind === "-" ? text("del", part) : words(part);
  };
  return el(
    "dl",
    { class: "diff" },
    ...changes.flatMap(([field, parts]) => [el("dt", {}, field), el("dd", { dir: "auto" }, ...parts.map(runs))]),
  );
}

// --- deciding ----------------------------------------------------------------------------------------------------

async function decide(verdict, { reason = null, note = "", item = null } = {}) {
  if (busy || moving || row === null) return false;
  const decision = { id: row.id, content: row.content, verdict, reason, note, item };
  const next = nextUndecided(row.id);
  busy = true;
  try {
    if (!(await send(decision))) return false;
    if (next && next.id !== decision.id) {
      await show(next.id);
      say(`${VERDICTS[verdict]}. Row ${at(next.id) + 1} of ${shown.length}.`);
    } else {
      await show(decision.id);
      const left = list.rows.some(undecided) ? "No undecided row is left here." : "All rows are decided.";
      notice(`${VERDICTS[verdict]}. ${left}`);
    }
    return true;
  } finally {
    busy = false;
  }
}

/** Send a decision; true when it is on the disk. If it could not be sent it is kept, to be sent again. */
async function send(decision) {
  document.body.classList.add("busy");
  try {
    const made = await ask("/decide", decision);
    keepUnsent(unsent().filter((other) => other.id !== decision.id));
    // Where another tab decided meanwhile, the version stays the old one, and the next look brings the list.
    if (made.before === list.version) list.version = made.version;
    if (decision.item !== null) keep(`draft:${decision.id}`, null);
    update(decision.id, made.state);
    settled();
    return true;
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    if (trouble.status === 409) {
      keepUnsent(unsent().filter((other) => other.id !== decision.id));
      await refresh().catch(() => {}); // what is wrong is told below, and looked at again soon
      complain(trouble);
    } else if (trouble.status === 422 || trouble.status === 413) {
      complain(trouble);
    } else {
      keepUnsent([...unsent().filter((other) => other.id !== decision.id), decision]);
      complain(trouble);
      showList();
    }
    return false;
  } finally {
    document.body.classList.remove("busy");
  }
}

async function sendAgain() {
  if (busy) return;
  busy = true;
  try {
    for (const decision of unsent()) if (!(await send(decision))) return;
    await refresh();
    const here = list.rows.find((item) => item.id === row?.id);
    const next = here && undecided(here) ? here : (nextUndecided(row?.id) ?? here);
    if (next) await show(next.id);
    say("Saved.");
  } catch (trouble) {
    complain(trouble);
  } finally {
    busy = false;
  }
}

function update(id, state) {
  const item = list.rows.find((one) => one.id === id);
  if (item) item.state = state;
  const button = [...$("rows").children].find((one) => one.firstChild.dataset.id === id);
  if (item && button) button.replaceWith(entry(item));
  showCounts();
}

/** One clear line, and the decisions that wait to be sent. */
function complain(trouble) {
  if (!(trouble instanceof Trouble)) throw trouble;
  lost = [0, 403, 503].includes(trouble.status);
  const waiting = unsent();
  const where = $("editing").open ? $("edit-notice") : $("rejecting").open ? $("reject-wrong") : null;
  if (where) {
    where.hidden = false;
    where.textContent = trouble.message;
  }
  $("trouble").hidden = false;
  fill($("trouble"), el("p", {}, words(trouble.message)), ...(waiting.length ? [waits(waiting)] : []));
}

function waits(waiting) {
  const what = waiting.map(({ verdict, id }) => `${verdict} ${id}`).join(", ");
  return el(
    "p",
    {},
    `Kept in this page, not saved yet: ${what}. `,
    el("button", { type: "button", id: "send-again", onclick: sendAgain }, "Send again"),
    " ",
    el(
      "button",
      {
        type: "button",
        onclick: () => {
          keepUnsent([]);
          settled();
          showList();
        },
      },
      waiting.length > 1 ? "Drop them" : "Drop it",
    ),
  );
}

function settled() {
  lost = false;
  const waiting = unsent();
  $("trouble").hidden = !waiting.length;
  fill($("trouble"), ...(waiting.length ? [waits(waiting)] : []));
}

// --- rejecting ---------------------------------------------------------------------------------------------------

function startReject() {
  if (row === null || busy || moving) return;
  const choices = list.reasons.map(([code, means], index) =>
    el(
      "li",
      {},
      el(
        "label",
        {},
        el("input", { type: "radio", name: "reason", value: code }),
        el("kbd", {}, String(index + 1)),
        el("span", {}, el("strong", {}, code.replaceAll("_", " ")), el("small", {}, ` ${means}`)),
      ),
    ),
  );
  fill($("reasons"), ...choices);
  $("reject-note").value = "";
  $("reject-wrong").hidden = true;
  $("rejecting").showModal();
  $("reasons").querySelector("input").focus();
}

function chooseReason(index) {
  const inputs = $("reasons").querySelectorAll("input");
  if (index >= inputs.length) return;
  inputs[index].checked = true;
  inputs[index].focus();
  $("reject-wrong").hidden = true;
}

async function finishReject() {
  const reason = $("reasons").querySelector("input:checked")?.value;
  const note = $("reject-note").value.trim();
  const vague = reason === "other" && !note;
  const wrong = !reason ? "Choose a reason, by its digit." : vague ? "Say in the note what it is." : "";
  $("reject-wrong").hidden = !wrong;
  $("reject-wrong").textContent = wrong;
  if (wrong) {
    if (reason) $("reject-note").focus();
    return;
  }
  $("rejecting").close();
  await decide("reject", { reason, note });
}

// --- editing -----------------------------------------------------------------------------------------------------

let checking = 0; // the number of the last check asked for
let timer = 0;
let editedFrom = null; // the content hash that the edit was begun from

const editing = () => $("editing").open;

function startEdit(from = null) {
  if (row === null || busy || moving) return;
  const old = from === null ? draft(row.id) : null;
  const own = row.decisions.find((made) => !made.stale && made.item !== null);
  const item = from ?? old?.item ?? own?.item ?? row.record;
  const changed = old !== null && old.content !== row.content;
  editedFrom = row.content;
  $("edit-notice").hidden = !changed;
  $("edit-notice").textContent = changed
    ? "The row has changed since you began this edit. Read it again; “Drop the edit” takes the row as it is now."
    : "";
  fillForm(item, old?.note ?? "");
  $("editing").showModal();
  $("edit-question").focus();
  $("edit-question").setSelectionRange(0, 0);
  $("editing").scrollTop = 0;
  check();
}

function fillForm(item, note) {
  $("edit-question").value = item.question;
  $("edit-think").value = item.think;
  $("edit-reflection").value = item.reflection;
  $("edit-adjustment").value = item.adjustment ?? "";
  $("edit-note").value = note;
  fill(
    $("edit-options"),
    ...LETTERS.map((letter, index) => {
      const radio = el("input", { type: "radio", name: "answer", value: letter, "aria-label": `${letter} is right` });
      const area = el("textarea", { rows: 1, "aria-label": `Option ${letter}` });
      radio.checked = item.answer === letter;
      area.value = item.options[index];
      return el("div", { class: "choice" }, radio, el("span", { class: "letter" }, letter), area);
    }),
  );
  fill($("edit-steps"), ...item.steps.map(stepField));
}

function stepField(content) {
  const area = el("textarea", { rows: 1, "aria-label": "Step" });
  area.value = content;
  const line = el(
    "li",
    {},
    area,
    el(
      "button",
      {
        type: "button",
        "aria-label": "Take this step out",
        title: "Take this step out",
        onclick: () => {
          const near = line.nextElementSibling ?? line.previousElementSibling;
          line.remove();
          (near?.querySelector("textarea") ?? $("add-step")).focus();
          edited();
        },
      },
      "✕",
    ),
  );
  return line;
}

function formItem() {
  const areas = (id) => [...$(id).querySelectorAll("textarea")].map((area) => area.value);
  return {
    question: $("edit-question").value,
    options: areas("edit-options"),
    think: $("edit-think").value,
    steps: areas("edit-steps"),
    reflection: $("edit-reflection").value,
    adjustment: $("edit-adjustment").value.trim() ? $("edit-adjustment").value : null,
    answer: $("edit-options").querySelector("input:checked")?.value ?? "",
  };
}

function edited() {
  keep(`draft:${row.id}`, { content: editedFrom, item: formItem(), note: $("edit-note").value });
  $("save-edit").disabled = true;
  checking += 1;
  clearTimeout(timer);
  timer = setTimeout(check, WAIT);
}

async function check() {
  const number = ++checking;
  try {
    const found = await ask("/check", { id: row.id, item: formItem() });
    if (number !== checking) return;
    $("save-edit").disabled = !found.changed || found.failed.length > 0;
    if (found.failed.length) fill($("edit-checks"), problems(found.failed));
    else if (!found.changed) fill($("edit-checks"), el("p", { class: "faint" }, "Nothing is changed yet."));
    else fill($("edit-checks"), el("p", { class: "fine" }, `✓ passes all ${found.passed} checks`));
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    if (number === checking) fill($("edit-checks"), el("p", { class: "wrong" }, words(trouble.message)));
  }
}

async function saveEdit() {
  if ($("save-edit").disabled || busy) return;
  if (editedFrom !== row.content) return;
  if (await decide("edit", { item: formItem(), note: $("edit-note").value.trim() })) $("editing").close();
}

function dropEdit() {
  keep(`draft:${row.id}`, null);
  clearTimeout(timer);
  checking += 1;
  $("editing").close();
  showList();
  notice("The edit is dropped.");
}

function closedEdit() {
  clearTimeout(timer);
  checking += 1;
  showList();
  $("row").focus({ preventScroll: true });
  if (behind) refresh().catch(complain);
  behind = false;
}

// --- files that change under the page ----------------------------------------------------------------------------

/** Load the list again, and the row if its content has changed. */
async function refresh() {
  await loadList();
  if (row === null) return begin();
  mark(row.id);
  let found;
  try {
    found = await ask(`/row?id=${encodeURIComponent(row.id)}`);
  } catch (trouble) {
    if (trouble.status !== 404) throw trouble;
    const gone = row.id;
    if (editing()) return complain(trouble);
    row = null;
    fill($("row"));
    await begin();
    return notice(`The row ${gone} is no longer in the sample.`);
  }
  if (found.id !== row.id) return;
  if (found.content === row.content) {
    const same = JSON.stringify(found) === JSON.stringify(row);
    row = found;
    if (!same && !editing()) render();
  } else if (editing()) {
    behind = true;
    $("edit-notice").hidden = false;
    $("edit-notice").textContent =
      "The row has changed on the disk since you began this edit. Close to see it as it is now; your edit is kept.";
    $("save-edit").disabled = true;
    checking += 1;
  } else {
    $("rejecting").close();
    row = found;
    render();
    notice("The row has changed on the disk and is shown anew: read it again.");
  }
}

async function look() {
  if (document.hidden || busy) return;
  try {
    const { version } = await ask("/state");
    if (lost) settled();
    if (version !== list.version && !busy) await refresh();
  } catch (trouble) {
    complain(trouble);
  }
}

// --- keys and buttons --------------------------------------------------------------------------------------------

const KEYS = {
  a: () => decide("accept"),
  r: startReject,
  e: () => startEdit(),
  n: () => step(1),
  j: () => step(1),
  ArrowRight: () => step(1),
  p: () => step(-1),
  k: () => step(-1),
  ArrowLeft: () => step(-1),
  u: goUndecided,
  "?": () => $("help").showModal(),
  Escape: () => openList(false),
};
const ONCE = new Set(["a", "r", "e", "u", "?"]); // not when the key is held down

function typing(target) {
  return target instanceof Element && target.closest("textarea, select, input:not([type=radio])") !== null;
}

function pressed(event) {
  if (event.isComposing || event.keyCode === 229 || event.altKey || event.metaKey) return;
  if ($("editing").open) {
    if (event.ctrlKey && event.key === "Enter") {
      event.preventDefault();
      saveEdit();
    }
    return;
  }
  if (event.ctrlKey) return;
  if ($("rejecting").open) {
    if (event.key === "Enter" && !event.shiftKey && !event.repeat && !event.target.closest?.("button")) {
      event.preventDefault();
      finishReject();
    } else if (/^[1-9]$/.test(event.key) && !typing(event.target)) {
      event.preventDefault();
      chooseReason(Number(event.key) - 1);
    }
    return;
  }
  if ($("help").open) return;
  if (typing(event.target)) {
    if (event.key === "Escape") $("row").focus({ preventScroll: true });
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  if (!(event.repeat && ONCE.has(key))) KEYS[key]();
}

function wire() {
  document.addEventListener("keydown", pressed);
  const clicks = {
    accept: KEYS.a,
    reject: startReject,
    edit: KEYS.e,
    next: KEYS.n,
    previous: KEYS.p,
    undecided: goUndecided,
    "show-help": KEYS["?"],
    "show-list": () => openList(!document.body.classList.contains("list-open")),
    "cancel-reject": () => $("rejecting").close(),
    "add-step": () => {
      const line = stepField("");
      $("edit-steps").append(line);
      line.querySelector("textarea").focus();
      edited();
    },
    "close-edit": () => $("editing").close(),
    "drop-edit": dropEdit,
    clear: () => {
      $("filters").reset();
      showList();
    },
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("filters").addEventListener("input", showList);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reject-form").addEventListener("submit", (event) => {
    event.preventDefault();
    finishReject();
  });
  $("edit-form").addEventListener("submit", (event) => {
    event.preventDefault();
    saveEdit();
  });
  $("edit-form").addEventListener("input", edited);
  $("reject-form").addEventListener("input", () => {
    $("reject-wrong").hidden = true;
  });
  $("editing").addEventListener("close", closedEdit);
  $("rejecting").addEventListener("close", () => $("row").focus({ preventScroll: true }));
  document.addEventListener("visibilitychange", look);
  addEventListener("beforeunload", (event) => {
    if (unsent().length) event.preventDefault();
  });
  setInterval(look, LOOK);
}

/** Show the row that the address names, else the first undecided. */
async function begin() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const first = list.rows.find((item) => item.id === asked) ?? list.rows.find(undecided) ?? list.rows[0];
  if (!first) return notice("The bank holds no rows: there is nothing to review.");
  await show(first.id);
  if (!list.rows.some(undecided)) notice("All rows are decided.");
}

async function start() {
  wire();
  try {
    await loadList();
    await begin();
  } catch (trouble) {
    complain(trouble);
  }
}

start();
