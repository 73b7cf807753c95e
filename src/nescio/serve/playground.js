"use strict";
const $ = (id) => document.getElementById(id);
const MOST = 3;
let policy = null, setups = [], running = null;

const headers = () => ({ "Content-Type": "application/json", ...($("key").value && { Authorization: `Bearer ${$("key").value}` }) });
const told = async (response) => (await response.json().catch(() => null))?.error?.message ?? `HTTP ${response.status}`;
const option = (value, text) => new Option(text, value);

async function enter() {
  $("policy").classList.remove("error");
  try {
    const response = await fetch("v1/policy", { headers: headers() });
    if (!response.ok) throw new Error(await told(response));
    policy = await response.json();
  } catch (error) {
    policy = null;
    $("policy").textContent = `No access: ${error.message}`;
    $("policy").classList.add("error");
  }
  for (const setup of setups) setup.node.remove();
  setups = [];
  $("send").disabled = $("add").disabled = $("share").disabled = !policy;
  $("compare").hidden = true;
  $("yaml").value = "";
  $("verdict").replaceChildren();
  if (!policy) return;
  const { scale, space } = policy.guidance;
  const types = Object.entries(policy.audit.types || {}).map(([type, action]) => `${type} ${action}`);
  const audit = [policy.audit.default || policy.audit, ...types].join(", ");
  const guided = policy.models.some((model) => !policy.unguided.includes(model));
  const guidance = guided ? `scale ${scale.min} to ${scale.max}, space ${space.allowed.join(" or ")}` : "unguided";
  $("policy").textContent = `Policy ${policy.name}: audit ${audit}, ${guidance}, at most ${policy.limits.max_tokens} tokens`;
  $("system-label").hidden = !policy.allow.system_message;
  $("tokens").max = policy.limits.max_tokens;
  $("tokens").value = Math.min(128, policy.limits.max_tokens);
  $("tools").hidden = !policy.allow.tools;
  if (!fromLink(new URLSearchParams(location.hash.slice(1)))) for (const way of ways().slice(0, MOST)) add(way);
  if ($("editor").open) showTrial(true);
}

/* The guidance that this policy allows: none if scale 1 is in its range, and each of its spaces. */
function ways() {
  const { scale, space } = policy.guidance;
  const none = policy.unguided.length || (scale.min <= 1 && scale.max >= 1) ? ["none"] : [];
  const guides = policy.unguided.length < policy.models.length && (scale.max !== 1 || scale.min !== 1);
  return [...none, ...(guides ? space.allowed : [])];
}

function add(way, scale, model) {
  const node = $("setup").content.cloneNode(true).firstElementChild;
  const one = (selector) => node.querySelector(selector);
  const setup = { node, talk: one(".talk"), facts: one(".facts"), model: one(".model"), space: one(".space"), scale: one(".scale") };
  reset(setup);
  setup.model.append(...policy.models.map((name) => option(name, name)));
  setup.space.append(...ways().map((name) => option(name, name === "none" ? "unguided" : `${name} space`)));
  setup.space.value = way ?? ways().at(-1);
  setup.model.value = model ?? policy.models[0];
  const { min, max, default: usual } = policy.guidance.scale;
  Object.assign(setup.scale, { min, max, value: scale ?? (usual === 1 && max > 1 ? Math.min(3, max) : usual) });
  const show = () => {
    setup.space.disabled = policy.unguided.includes(setup.model.value);
    if (setup.space.disabled) setup.space.value = "none";
    setup.scale.disabled = setup.space.value === "none" || min === max;
    one("output").textContent = setup.space.value === "none" ? "1" : setup.scale.value;
  };
  setup.model.onchange = setup.space.onchange = setup.scale.oninput = () => { show(); setup.total = nothing(); compare(); };
  show();
  one(".curl").onclick = () => copyCode(curl, setup, "curl");
  one(".python").onclick = () => copyCode(python, setup, "Python");
  one(".remove").onclick = () => { node.remove(); setups = setups.filter((each) => each !== setup); number(); $("message").focus(); };
  $("setups").append(node);
  setups.push(setup);
  number();
}

const nothing = () => ({ answers: 0, leaking: 0, found: 0, sent: 0, stopped: 0, tokens: 0, seconds: 0, first: 0 });

function reset(setup) {
  setup.history = [];
  setup.total = nothing();
}

function number() {
  setups.forEach((setup, index) => {
    setup.node.querySelector("h2").textContent = `Set-up ${index + 1}`;
    setup.node.setAttribute("aria-label", `Set-up ${index + 1}`);
    setup.talk.setAttribute("aria-label", `Answers of set-up ${index + 1}`);
  });
  $("add").disabled = setups.length >= MOST;
  compare();
}

function compare() {
  const cells = ({ model, space, scale, total }, index) => [
    `${index + 1}: ${model.value}`, space.value === "none" ? "none" : `${space.value} × ${scale.value}`, total.answers,
    total.leaking, total.found, total.sent, total.stopped,
    total.tokens ? (total.tokens / total.seconds).toFixed(1) : "–",
    total.answers ? `${(total.first / total.answers).toFixed(2)} s` : "–",
  ];
  $("rows").replaceChildren(...setups.map((setup, index) => {
    const row = document.createElement("tr");
    row.append(...cells(setup, index).map((text, place) => {
      const cell = Object.assign(document.createElement(place ? "td" : "th"), { textContent: text });
      if (!place) cell.scope = "row";
      return cell;
    }));
    return row;
  }));
  $("compare").hidden = !setups.some(({ total }) => total.answers);
}

function body(setup, message) {
  const system = policy.allow.system_message && $("system").value ? [{ role: "system", content: $("system").value }] : [];
  const guided = setup.space.value !== "none";
  return {
    model: setup.model.value,
    messages: [...system, ...setup.history, { role: "user", content: message }],
    max_tokens: Number($("tokens").value),
    temperature: Number($("temperature").value),
    ...(policy.allow.tools && $("definitions").value.trim() && { tools: JSON.parse($("definitions").value) }),
    guidance: guided ? { scale: Number(setup.scale.value), space: setup.space.value } : { scale: 1 },
  };
}

const asked = (setup) => setup.last ?? body(setup, $("message").value || "Hello");

function say(setup, kind, text) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.textContent = text;
  setup.talk.append(paragraph);
  setup.talk.scrollTop = setup.talk.scrollHeight;
  return paragraph;
}

const DONE = { count: "sent", replace: "replaced", mask: "masked" };

/* Marks count Unicode code points, JavaScript strings count UTF-16 units. */
function draw(paragraph, text, marks) {
  const points = Array.from(text);
  const part = (start, end) => document.createTextNode(points.slice(start, end).join(""));
  let at = 0;
  paragraph.replaceChildren();
  for (const { start, end, type, action } of marks) {
    if (start < at) continue;
    const mark = document.createElement("mark"), small = document.createElement("small");
    small.textContent = `${type} ${DONE[action]}`;
    mark.className = action;
    mark.append(part(start, end), small);
    paragraph.append(part(at, start), mark);
    at = end;
  }
  paragraph.append(part(at));
}

function tell(setup, marks, tokens, seconds, end) {
  const counts = {};
  for (const { type, action } of marks) counts[`${type} ${DONE[action]}`] = (counts[`${type} ${DONE[action]}`] ?? 0) + 1;
  const kinds = Object.entries(counts).map(([kind, count]) => `${count} ${kind}`).join(", ");
  const speed = tokens ? ` · ${tokens} tokens · ${(tokens / seconds).toFixed(1)} tokens/s` : "";
  setup.facts.textContent = `PII ${marks.length}${kinds ? ` (${kinds})` : ""}${speed}${end ? ` · ${end}` : ""}`;
}

function count({ total }, marks, tokens, seconds, first, end) {
  total.answers += 1;
  total.leaking += marks.length > 0;
  total.found += marks.length;
  total.sent += marks.filter(({ action }) => action === "count").length;
  total.stopped += end === "content_filter";
  total.tokens += tokens;
  total.seconds += seconds;
  total.first += first;
  compare();
}

/* Calls that an answer ends with, and what the page says that they return. */
function returned(setup, calls) {
  for (const { function: { name, arguments: given } } of calls) {
    say(setup, "call", `${name}(${given})`);
    say(setup, "returns", $("returns").value);
  }
  return calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: $("returns").value }));
}

async function answer(setup, message, signal) {
  setup.last = body(setup, message);
  say(setup, "user", message);
  const paragraph = say(setup, "answer", "…"), start = performance.now(), marks = [], calls = [];
  const since = () => (performance.now() - start) / 1000;
  let text = "", tokens = 0, end = "", first = 0;
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), signal,
      body: JSON.stringify({ ...setup.last, stream: true, stream_options: { include_usage: true }, mark_pii: true }),
    });
    if (!response.ok) throw new Error(await told(response));
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      tokens = event.usage?.completion_tokens ?? tokens;
      for (const { delta, pii, finish_reason } of event.choices) {
        text += delta.content ?? "";
        marks.push(...(pii ?? []));
        for (const { index, id, function: part } of delta.tool_calls ?? []) {
          calls[index] ??= { id, type: "function", function: { name: part.name, arguments: "" } };
          calls[index].function.arguments += part.arguments;
        }
        if (finish_reason && finish_reason !== "stop") end = finish_reason;
      }
      first ||= text || calls.length ? since() : 0;
      draw(paragraph, text, marks);
      tell(setup, marks, tokens, since(), end);
      setup.talk.scrollTop = setup.talk.scrollHeight;
    }
    count(setup, marks, tokens, since(), first, end);
    if (end === "content_filter") say(setup, "stopped", "The audit or the upstream ended the answer here.");
    const said = { role: "assistant", content: text, ...(calls.length && { content: text || null, tool_calls: calls }) };
    setup.history = [...setup.history, { role: "user", content: message }, said, ...returned(setup, calls)];
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!text) paragraph.textContent = "";
    if (stopped) tell(setup, marks, tokens, 1, "stopped");
    else say(setup, "error", error.message).setAttribute("role", "alert");
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line !== "data: [DONE]") yield JSON.parse(line.slice(6));
  }
}

$("ask").onsubmit = async (event) => {
  event.preventDefault();
  const message = $("message").value.trim();
  if (running || !message || !setups.length || !toolsFit()) return;
  running = new AbortController();
  $("send").disabled = true;
  $("stop").disabled = false;
  $("status").textContent = "Answering…";
  await Promise.all(setups.map((setup) => answer(setup, message, running.signal)));
  running = null;
  $("send").disabled = !policy;
  $("stop").disabled = true;
  $("status").textContent = "Done.";
  $("message").value = "";
  $("message").focus();
};
$("message").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("ask").requestSubmit(); }
};
document.onkeydown = (event) => { if (event.key === "Escape") running?.abort(); };
$("stop").onclick = () => running?.abort();
$("clear").onclick = () => {
  for (const setup of setups) { reset(setup); setup.talk.replaceChildren(); setup.facts.textContent = ""; delete setup.last; }
  compare();
  $("message").focus();
};
$("add").onclick = () => add();
$("example").onclick = () => {
  const parameters = { type: "object", properties: { to: { type: "string" }, text: { type: "string" } } };
  $("definitions").value = JSON.stringify([{ type: "function", function: { name: "send_mail", parameters } }], null, 1);
};
window.onhashchange = () => { running?.abort(); enter(); };
$("enter").onsubmit = (event) => { event.preventDefault(); running?.abort(); enter(); };
