/* The editor of a policy: a dry run on the server, which changes nothing there and asks no model. */

async function tryPolicy(own) {
  const request = setups.length ? body(setups[0], $("message").value || "Hello") : null;
  const response = await fetch("v1/policy/try", {
    method: "POST", headers: headers(), body: JSON.stringify({ request, ...(own ? {} : { policy: $("yaml").value }) }),
  });
  if (!response.ok) throw new Error(await told(response));
  return response.json();
}

function list(title, lines) {
  const head = document.createElement("h3"), items = document.createElement("ul");
  head.textContent = title;
  items.append(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  return lines.length ? [head, items] : [];
}

async function showTrial(own) {
  try {
    const { policy: text, terms, warnings, status, lines } = await tryPolicy(own);
    $("yaml").value = text;
    $("verdict").replaceChildren(
      ...list("Its callers get", terms), ...list("It leaves open", warnings),
      ...list(status === 200 ? "This request is answered" : "This request is refused", lines),
    );
  } catch (error) {
    const said = Object.assign(document.createElement("p"), { className: "error", textContent: error.message });
    $("verdict").replaceChildren(said);
  }
}

$("try").onsubmit = (event) => { event.preventDefault(); showTrial(false); };
$("own").onclick = () => showTrial(true);
$("editor").ontoggle = () => { if ($("editor").open && !$("yaml").value) showTrial(true); };
