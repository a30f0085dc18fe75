// Tables that are filled again and again. Names come from strangers: they become text, never markup.

// Table shows rows of columns: { label, text: row => string, numeric, bar: row => 0…1, cell: (row) => Element }.
export class Table {
  #body; #columns; #empty;

  constructor(place, label, columns, empty) {
    this.#columns = columns;
    const table = document.createElement('table'), head = document.createElement('thead'), line = document.createElement('tr');
    table.setAttribute('role', 'table'); // narrow screens show rows as blocks, which would take the roles away
    table.setAttribute('aria-label', label);
    head.setAttribute('role', 'rowgroup');
    line.setAttribute('role', 'row');
    for (const c of columns) {
      const cell = document.createElement('th');
      cell.setAttribute('role', 'columnheader');
      cell.scope = 'col';
      cell.textContent = c.label;
      if (c.hidden) { cell.textContent = ''; const s = document.createElement('span'); s.className = 'sr'; s.textContent = c.label; cell.append(s); }
      if (c.numeric) cell.className = 'number-cell';
      line.append(cell);
    }
    head.append(line);
    this.#body = document.createElement('tbody');
    this.#body.setAttribute('role', 'rowgroup');
    this.#empty = document.createElement('p');
    this.#empty.className = 'small none';
    this.#empty.textContent = empty;
    table.append(head, this.#body);
    place.replaceChildren(table, this.#empty);
    this.table = table;
  }

  // show replaces the rows, touching only what is different.
  show(rows) {
    this.table.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    while (this.#body.rows.length > rows.length) this.#body.lastElementChild.remove();
    rows.forEach((row, i) => this.#fill(this.#body.rows[i] ?? this.#add(), row));
    return [...this.#body.rows];
  }

  #add() {
    const line = document.createElement('tr');
    line.setAttribute('role', 'row');
    this.#columns.forEach((c, i) => {
      const cell = document.createElement(i === 0 ? 'th' : 'td');
      cell.setAttribute('role', i === 0 ? 'rowheader' : 'cell');
      if (i === 0) cell.scope = 'row';
      if (!c.hidden) cell.dataset.label = c.label;
      if (c.numeric) cell.className = 'number-cell';
      if (c.name) cell.classList.add('name');
      if (c.bar) {
        const bar = document.createElement('meter'), text = document.createElement('span');
        bar.max = 1;
        bar.setAttribute('aria-hidden', 'true');
        cell.append(text, bar);
      }
      line.append(cell);
    });
    this.#body.append(line);
    return line;
  }

  #fill(line, row) {
    this.#columns.forEach((c, i) => {
      const cell = line.cells[i];
      if (c.cell) { cell.replaceChildren(c.cell(row)); return; }
      const text = c.text(row), holder = c.bar ? cell.firstElementChild : cell;
      if (holder.textContent !== text) holder.textContent = text;
      if (c.title) cell.title = c.title(row);
      if (c.bar) cell.lastElementChild.value = c.bar(row);
    });
  }
}
