// Fetches the page again and takes over its figures; says so when it can't, instead of showing old ones as new.
"use strict";
const SECONDS = 5;
const main = document.getElementById("main");
const problem = document.getElementById("problem");
let since = null;

function tell(text) {
  // Who listens to the page hears it at each change: what stays the same isn't said again.
  if (problem.textContent !== text) problem.textContent = text;
  problem.hidden = !text;
}

function lose(why) {
  since = since || new Date().toISOString().slice(11, 19);
  tell("✖ " + why + " since " + since + " UTC: these figures are old.");
  main.classList.add("old");
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, {
      headers: {"X-Requested-With": "board"}, signal: AbortSignal.timeout(8000),
    });
    if (answer.status === 401) return location.assign("/sign-in");
    if (!answer.ok) return lose("The board answers " + answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const focused = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    main.replaceChildren(...page.getElementById("main").childNodes);
    if (focused) main.querySelector('[href="' + CSS.escape(focused) + '"]')?.focus();
    since = null;
    tell(page.getElementById("problem").textContent);
    main.classList.remove("old");
  } catch {
    lose("The board doesn't answer");
  }
}

async function loop() {
  await refresh();
  setTimeout(loop, SECONDS * 1000);
}
setTimeout(loop, SECONDS * 1000);
document.addEventListener("visibilitychange", refresh);
