// The Upload pages beyond plain HTML: the file is stored first, then answered a chunk at a time while the bar moves.
// Nothing depends on it: without script the server answers the file before it shows the page.
"use strict";

const later = document.querySelector("form[enctype] [name=answer]");
if (later) later.value = "later";

const going = document.querySelector("#unfinished form[data-start]");
if (going) goOn(going);

async function goOn(form) {
  const [bar, text, said, state, failed] = ["", "-text", "-said", "-state", "-failed"].map((end) =>
    document.getElementById(`progress${end}`),
  );
  const words = (done, rows) => `${done.toLocaleString("en")} of ${rows.toLocaleString("en")} rows`;
  form.hidden = true;
  state.textContent = "The rows are being answered. If you leave this page, you can go on later.";
  try {
    let quarter = 0;
    for (let done = false; !done; ) {
      const response = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.detail);
      bar.value = answer.answered;
      text.textContent = words(answer.answered, answer.rows);
      // read out now and then, not with every chunk
      const reached = Math.floor((4 * answer.answered) / answer.rows);
      if (reached > quarter) said.textContent = text.textContent;
      quarter = reached;
      done = answer.finished;
    }
    location.reload();
  } catch (error) {
    failed.textContent = `It stopped. What is recorded stays. (${error.message})`;
    state.textContent = `${text.textContent} are answered and recorded.`;
    form.hidden = false;
  }
}
