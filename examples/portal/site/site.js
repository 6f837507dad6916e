// What a site does with Kaskad: says what the visitor agreed to, who they are, and what they did. The rest is the site's own.
'use strict';

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

// The language: as asked for, else the browser's.
const language = query.get('lang') || navigator.language;
document.documentElement.lang = language.startsWith('ru') ? 'ru' : 'en';
if (query.get('lang'))
  for (const link of document.querySelectorAll('a[href^="/portal"]')) {
    const url = new URL(link.href);
    url.searchParams.set('lang', query.get('lang'));
    link.href = url;
  }
for (const link of document.querySelectorAll('.language')) {
  const url = new URL(location.href);
  url.searchParams.set('lang', link.hreflang);
  link.href = url;
}

// Consent: the site asks, remembers the answer, and tells Kaskad on each page. The tag says `none`, so that nothing is sent
// before this line, however slowly this file comes.
const choice = localStorage.getItem('portal.choice');
kaskad('consent', choice || 'cookieless');
$('choice').hidden = !!choice;
for (const button of document.querySelectorAll('#choice button'))
  button.onclick = () => {
    localStorage.setItem('portal.choice', button.value);
    kaskad('consent', button.value);
    $('choice').hidden = true;
  };
if ($('again')) $('again').onclick = () => ($('choice').hidden = false);

async function call(path, body) {
  const options = body && { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
  const answer = await fetch('/portal/api/' + path, options);
  const found = await answer.json();
  if (!answer.ok) throw Error((found.errors || []).map((one) => one.message).join('; ') || found.detail);
  return found;
}

function trouble(error) {
  $('trouble').textContent = error.message;
  $('trouble').hidden = false;
}

// The application: a draft is saved or sent, which Kaskad hears, and shown again when the visitor comes back.
const address = (id) => '/portal/applications/' + id + (query.get('lang') ? '?lang=' + query.get('lang') : '');

async function keep(form, act) {
  const given = Object.fromEntries(new FormData(form));
  const id = 'MY-' + crypto.getRandomValues(new Uint32Array(1))[0].toString(16).toUpperCase().padStart(8, '0');
  const account = await call('accounts', {
    email: given.email, first_name: given.first_name, company: given.company, agreed: !!given.agreed,
    language: document.documentElement.lang,
  });
  kaskad('identify', { external_id: account.external_id });
  const told = { application_id: id, measure: form.measure.selectedOptions[0].dataset[document.documentElement.lang] };
  kaskad('track', 'application.saved', { ...told, status: 'draft', link: location.origin + address(id) });
  if (act == 'submit') kaskad('track', 'application.submitted', { ...told, status: 'submitted' });
  kaskad('flush');
  location.href = address(id);
}

async function show(id, tries) {
  const found = await call('applications/' + encodeURIComponent(id));
  $('unknown').hidden = found.known;
  $('known').hidden = !found.known;
  if (!found.known) {
    if (tries) setTimeout(() => show(id, tries - 1).catch(trouble), 500);
    return;
  }
  // Only the browser in which it was saved is told whose application it is, and can send it.
  if (found.own) {
    kaskad('identify', { external_id: found.external_id });
    $('who').textContent = [found.first_name, found.company].filter(Boolean).join(', ');
    $('email').textContent = found.email;
    $('mailbox').href = '/mailbox?to=' + encodeURIComponent(found.email);
  }
  $('outcome').textContent = found.outcome;
  $('done').hidden = !found.outcome;
  $('other').hidden = found.own;
  $('open').hidden = $('submit').hidden = !found.own || !!found.outcome;
  if (!found.outcome) setTimeout(() => show(id, 0).catch(trouble), 2000);
}

const form = $('application');
if (form) {
  const id = decodeURIComponent(location.pathname.split('/')[3] || '');
  if (query.get('measure')) form.measure.value = query.get('measure');
  for (const option of form.measure.options)
    if (document.documentElement.lang == 'ru') option.textContent = option.dataset.ru[0].toUpperCase() + option.dataset.ru.slice(1);
  form.onsubmit = (event) => {
    event.preventDefault();
    keep(form, event.submitter && event.submitter.value).catch(trouble);
  };
  $('submit').onclick = () => {
    kaskad('track', 'application.submitted', { application_id: id, status: 'submitted' });
    $('submit').disabled = true;
  };
  if (id) {
    $('new').hidden = true;
    $('draft').hidden = false;
    $('number').textContent = id;
    show(id, 20).catch(trouble);
  }
}
