// Keys of the review queue: each presses the button that shows it. They can be switched off, and are off in text.
"use strict";

const OFF = "reviewapp-keys-off";
const help = document.getElementById("keys"); // on the page of the queue itself
const shown = [...document.querySelectorAll("kbd[hidden]")];
let on = localStorage.getItem(OFF) === null;

function showKeys() {
  for (const key of shown) key.hidden = !on;
}

function isTyping(element) {
  return element.matches("textarea, select, input:not([type=checkbox], [type=radio])");
}

showKeys();
if (help) {
  const box = document.getElementById("keys-on");
  help.hidden = false;
  box.checked = on;
  box.addEventListener("change", () => {
    on = box.checked;
    if (on) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "yes");
    showKeys();
  });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isTyping(event.target)) event.target.blur();
  // a key that is held down judges one record, not many
  if (!on || event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const keyed = document.querySelector(`[data-key="${CSS.escape(name)}"]`);
  if (!keyed) return;
  event.preventDefault();
  if (keyed.matches("a, button, summary")) keyed.click();
  if (keyed.matches("summary")) keyed.focus();
  if (keyed.matches("div")) keyed.querySelector("textarea, input").focus();
});
