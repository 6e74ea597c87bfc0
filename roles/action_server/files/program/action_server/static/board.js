// Fetches the page again and takes over its figures; says so when it can't, instead of showing old ones as new.
"use strict";
const SECONDS = 5;
const main = document.getElementById("main");
const lost = document.getElementById("lost");
let since = null;

function tell(problem) {
  since = since || new Date().toISOString().slice(11, 19);
  lost.textContent = "✖ " + problem + " since " + since + " UTC: these figures are old.";
  lost.hidden = false;
  main.classList.add("old");
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, {
      headers: {"X-Requested-With": "board"}, signal: AbortSignal.timeout(8000),
    });
    if (answer.status === 401) return location.assign("/sign-in");
    if (!answer.ok) return tell("The board answers " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    main.replaceChildren(...page.getElementById("main").childNodes);
    if (focused) main.querySelector('[href="' + CSS.escape(focused) + '"]')?.focus();
    since = null;
    lost.hidden = true;
    main.classList.remove("old");
  } catch {
    tell("The board doesn't answer");
  }
}

async function loop() {
  await refresh();
  setTimeout(loop, SECONDS * 1000);
}
setTimeout(loop, SECONDS * 1000);
document.addEventListener("visibilitychange", refresh);
