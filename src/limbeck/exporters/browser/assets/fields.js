// Texts and rows of a table, from fields to what the network takes. Gives a function that shows an example in them.
globalThis.limbeckFields = (answer, nothing, fail) => {
  "use strict";
  const { input } = limbeck.spec;
  const find = (id) => document.getElementById(id);

  function later(ask) {
    let waiting = 0;
    return () => {
      clearTimeout(waiting);
      waiting = setTimeout(ask, 150);
    };
  }

  function texts() {
    const field = find("text"), tokens = limbeckTokens.opened(input.tokenizer, input);
    const ask = (said, truth) => {
      const { ids, cut } = tokens(field.value), shape = [1, ids.length];
      find("tokens").textContent = `${ids.length} tokens${cut ? `, and ${cut} more that the network does not see` : ""}.`;
      const values = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: ids.map(() => 0) };
      const feeds = {};
      for (const name of input.names) feeds[name] = { data: BigInt64Array.from(values[name], BigInt), shape };
      return answer(feeds, said, truth);
    };
    field.addEventListener("input", later(() => (field.value.trim() ? ask("Your text", null) : nothing())));
    return (sample, said) => {
      field.value = sample.text;
      return ask(said, sample.label ?? null);
    };
  }

  // The numbers of a row, or the name of a column whose field holds no number.
  function encoded(row) {
    const values = [];
    for (const column of input.columns) {
      const given = row[column.name] ?? "";
      if (column.categories) {
        const units = new Array(column.categories.length + 1).fill(0), place = column.categories.indexOf(given);
        units[place < 0 ? column.categories.length : place] = 1;
        values.push(...units);
        continue;
      }
      const gap = String(given).trim() === "", number = gap ? column.median : Number(given);
      if (!Number.isFinite(number)) return column.name;
      values.push((number - column.mean) / column.std);
      if (column.marked) values.push(gap ? 1 : 0);
    }
    return Float32Array.from(values);
  }

  function rows() {
    const fields = new Map();
    for (const column of input.columns) {
      const label = document.createElement("label"), field = document.createElement(column.categories ? "select" : "input");
      label.textContent = column.name;
      if (column.categories)
        for (const name of [...new Set(["", ...column.categories])]) field.append(new Option(name || "(nothing)", name));
      else Object.assign(field, { type: "text", inputMode: "decimal", placeholder: "(nothing)" });
      label.append(field);
      find("row").append(label);
      fields.set(column.name, field);
    }
    const ask = (said, truth) => {
      const row = Object.fromEntries(Array.from(fields, ([name, field]) => [name, field.value])), data = encoded(row);
      for (const [name, field] of fields) field.classList.toggle("odd", name === data);
      if (typeof data === "string") return fail(`“${row[data]}” is not a number: ${data}.`);
      return answer({ inputs: { data, shape: [1, data.length] } }, said, truth);
    };
    find("row").addEventListener("input", later(() => ask("Your row", null)));
    find("row").addEventListener("submit", (event) => event.preventDefault());
    return (sample, said) => {
      for (const [name, field] of fields) field.value = sample.row[name] ?? "";
      return ask(said, sample.label ?? null);
    };
  }

  return input.kind === "text" ? texts() : rows();
};
