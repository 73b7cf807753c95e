/* What leaves the page: requests as code, and links to set-ups. */

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(setup) {
  const key = $("key").value ? ` \\\n  -H "Authorization: Bearer $NESCIO_API_KEY"` : "";
  return `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json'${key} \\\n  -d ${shell(JSON.stringify(asked(setup)))}`;
}

/* A value as Python writes it. */
function value(each) {
  if (typeof each === "boolean" || each === null) return { true: "True", false: "False", null: "None" }[each];
  if (Array.isArray(each)) return `[${each.map(value).join(", ")}]`;
  if (typeof each === "object") return `{${Object.entries(each).map(([name, one]) => `${value(name)}: ${value(one)}`).join(", ")}}`;
  return JSON.stringify(each).replaceAll(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function python(setup) {
  const { guidance, ...rest } = asked(setup);
  const fields = Object.entries(rest).map(([name, each]) => `    ${name}=${value(each)},\n`).join("");
  return `import os\n\nfrom openai import OpenAI\n\n` +
    `client = OpenAI(base_url=${value(location.origin + "/v1")}, api_key=os.environ.get("NESCIO_API_KEY", ""))\n` +
    `answer = client.chat.completions.create(\n${fields}    extra_body={"guidance": ${value(guidance)}},\n)\n` +
    `print(answer.choices[0].message.content)\n`;
}

function copyCode(code, setup, what) {
  if (toolsFit()) copy(code(setup), `as ${what}. It reads the key from NESCIO_API_KEY.`);
}

/* Whether the definitions of tools are JSON; if not, say so. */
function toolsFit() {
  try {
    JSON.parse($("definitions").value.trim() || "[]");
    return true;
  } catch (error) {
    $("status").textContent = `Tools: no JSON (${error.message})`;
    return false;
  }
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    $("status").textContent = `Copied ${what}`;
  } catch {
    $("status").textContent = text; /* browsers have no clipboard over plain HTTP from another machine; the text can still be selected */
  }
}

/* A link holds the set-ups and the sampling: no key, no message, no tool, no policy. */
function link() {
  const state = new URLSearchParams({ tokens: $("tokens").value, temperature: $("temperature").value });
  for (const { model, space, scale } of setups) state.append("setup", [space.value, scale.value, model.value].join(" "));
  return `${location.origin}${location.pathname}#${state}`;
}

/* Make the set-ups of a link that this key may have; return whether there are any. */
function fromLink(state) {
  for (const name of ["tokens", "temperature"]) if (state.get(name)) $(name).value = state.get(name);
  for (const each of state.getAll("setup").slice(0, MOST)) {
    const [space, scale, ...model] = each.split(" ");
    if (ways().includes(space) && policy.models.includes(model.join(" "))) add(space, scale, model.join(" "));
  }
  if (setups.length < state.getAll("setup").length) $("status").textContent = "This key may not have all set-ups of the link.";
  return setups.length > 0;
}

$("share").onclick = () => copy(link(), "a link to these set-ups; it holds no key and no text.");
