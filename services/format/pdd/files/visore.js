// The viewer of a distribution package. It reads PDD (data.js) and the page's address, and nothing else: no network, no
// storage. Every text goes into the page as text.
'use strict';
(function () {
  var words = {
    it: { title: 'Pacchetto di distribuzione', find: 'Cerca', print: 'Stampa', other: 'English', of: ' di ', documents: ' documenti',
      originals: 'Gli originali sono nella cartella documenti/. Le viste sono copie di consultazione, non gli originali.',
      made: 'Prodotto il ', purpose: 'Motivo: ', view: 'vista',
      columns: { date: 'Data', type: 'Tipo', number: 'Numero', seller: 'Cedente', buyer: 'Cessionario', state: 'Esito', sdi: 'Id SdI', file: 'Originale', receipts: 'Ricevute' } },
    en: { title: 'Distribution package', find: 'Search', print: 'Print', other: 'Italiano', of: ' of ', documents: ' documents',
      originals: 'The originals are in the folder documenti/. The views are copies for reading, not the originals.',
      made: 'Made on ', purpose: 'Purpose: ', view: 'view',
      columns: { date: 'Date', type: 'Type', number: 'Number', seller: 'Seller', buyer: 'Buyer', state: 'Outcome', sdi: 'SdI id', file: 'Original', receipts: 'Receipts' } }
  };
  var order = ['date', 'type', 'number', 'seller', 'buyer', 'state', 'sdi', 'file', 'receipts'];
  var language = 'it', sorted = 'date', down = true;
  function at(id) { return document.getElementById(id); }
  function fold(s) { return String(s).normalize('NFKD').replace(/[\u0300-\u036f'’\s]/g, '').toLowerCase(); }
  function party(p) { return [p.name, p.vat, p.code].filter(Boolean).join(' · '); }
  function cell(d, c) {
    switch (c) {
      case 'seller': return party(d.seller);
      case 'buyer': return party(d.buyer);
      case 'receipts': return d.receipts.map(function (r) { return r.path; }).join('\n');
      default: return String(d[c]);
    }
  }
  PDD.documents.forEach(function (d) { d.text = fold(order.map(function (c) { return cell(d, c); }).join('')); });
  function found() {
    var asked = at('find').value.split(/\s+/).map(fold).filter(Boolean);
    var list = PDD.documents.filter(function (d) { return asked.every(function (w) { return d.text.indexOf(w) >= 0; }); });
    return list.sort(function (a, b) {
      var c = cell(a, sorted).localeCompare(cell(b, sorted), language, { numeric: true });
      return down ? -c : c;
    });
  }
  function add(to, tag, text) {
    var e = document.createElement(tag);
    if (text !== undefined) { e.textContent = text; }
    to.appendChild(e);
    return e;
  }
  function row(body, d) {
    var tr = add(body, 'tr');
    order.forEach(function (c) {
      var td = add(tr, 'td');
      if (c !== 'file') {
        cell(d, c).split('\n').forEach(function (line, i) { if (i) { add(td, 'br'); } add(td, 'span', line); });
        return;
      }
      add(td, 'code', d.file);
      if (d.view) {
        add(td, 'br');
        var a = add(td, 'a', words[language].view);
        a.href = d.view;
        a.target = '_blank';
        a.rel = 'noopener noreferrer';
      }
    });
  }
  function show() {
    var w = words[language], list = found(), body = at('rows'), head = at('columns');
    document.documentElement.lang = language;
    document.title = w.title;
    at('title').textContent = w.title;
    at('about').textContent = w.made + PDD.made + (PDD.purpose ? '. ' + w.purpose + PDD.purpose : '');
    at('originals').textContent = w.originals;
    at('find-label').textContent = w.find;
    at('print').textContent = w.print;
    at('language').textContent = w.other;
    at('count').textContent = list.length + w.of + PDD.documents.length + w.documents;
    head.textContent = '';
    order.forEach(function (c) {
      var th = add(head, 'th');
      var b = add(th, 'button', w.columns[c] + (c === sorted ? (down ? ' ▼' : ' ▲') : ''));
      b.type = 'button';
      th.setAttribute('aria-sort', c !== sorted ? 'none' : down ? 'descending' : 'ascending');
      b.onclick = function () { down = c === sorted ? !down : false; sorted = c; show(); };
    });
    body.textContent = '';
    list.forEach(function (d) { row(body, d); });
  }
  // A cell that begins like a formula would be run by a spreadsheet.
  function csvCell(s) {
    s = s.replace(/\n/g, ' ');
    if (/^[=+\-@\t\r]/.test(s)) { s = "'" + s; }
    return '"' + s.replace(/"/g, '""') + '"';
  }
  function csv() {
    var lines = [order].concat(found().map(function (d) { return order.map(function (c) { return cell(d, c); }); }));
    var text = '\ufeff' + lines.map(function (l) { return l.map(csvCell).join(';'); }).join('\r\n') + '\r\n';
    var a = document.createElement('a');
    a.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
    a.download = 'documenti.csv';
    a.click();
  }
  at('find').oninput = show;
  at('print').onclick = function () { window.print(); };
  at('csv').onclick = csv;
  at('language').onclick = function () { language = language === 'it' ? 'en' : 'it'; show(); };
  // index.html#q=rossi begins with a search, #en in English.
  location.hash.slice(1).split('&').forEach(function (part) {
    if (part === 'en') { language = 'en'; }
    if (part.slice(0, 2) === 'q=') { at('find').value = decodeURIComponent(part.slice(2)); }
  });
  show();
})();
