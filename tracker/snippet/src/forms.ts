/** Forms that are sent, and of their fields what may be told. */
import type { Properties } from '../types/kaskad';
import { on } from './safe';

const OFF = '[data-kaskad-off]';
const KINDS = /^(text|email|tel|url|search|number|range|date|month|week|time|datetime-local|color|checkbox|radio|textarea|select-one|select-multiple)$/;
// Passwords, cards, codes and tokens, by what the form itself says of the field.
const SECRET =
  /(^|[ _\-[\]])(cc|csc|pan|pin|otp|ssn|iban|tan)($|[ _\-[\]\d])|cvc|cvv|card|passw|passport|passphrase|passcode|pwd|secret|token|csrf|security.?code|one.?time|парол|карт/i;
const DIGITS = /^[\d -]{13,30}$/;
const MOST = 50;
const LONGEST = 200;

/** Whether a text is the number of a payment card (ISO/IEC 7812: 13 to 19 digits, the last one makes the sum fit). */
export function isCard(text: string): boolean {
  if (!DIGITS.test(text.trim())) return false;
  const digits = text.replace(/\D/g, '');
  const sum = [...digits].reverse().reduce((all, digit, place) => {
    const twice = +digit * (place % 2 ? 2 : 1);
    return all + (twice > 9 ? twice - 9 : twice);
  }, 0);
  return digits.length > 12 && digits.length < 20 && sum % 10 == 0;
}

function fields(form: HTMLFormElement): Properties {
  const found: Record<string, string> = Object.create(null); // a field may be called constructor
  // `form.elements` itself is the field of that name, where a form has one.
  const { get } = Object.getOwnPropertyDescriptor(HTMLFormElement.prototype, 'elements')!;
  for (const field of Array.from(get!.call(form)) as HTMLInputElement[]) {
    const { name, type } = field;
    if (!name || !KINDS.test(type) || field.closest(OFF)) continue;
    if (SECRET.test([name, field.id, field.autocomplete, field.getAttribute('autocomplete')].join(' '))) continue;
    if (/checkbox|radio/.test(type) && !field.checked) continue;
    const options = (field as unknown as HTMLSelectElement).selectedOptions;
    const value = options ? Array.from(options, (option) => option.value).join(', ') : field.value;
    if (!value || isCard(value) || Object.keys(found).length >= MOST) continue;
    found[name.slice(0, 100)] = ((found[name] ? found[name] + ', ' : '') + value).slice(0, LONGEST);
  }
  return found;
}

/** Reports each form that is sent; its fields only if that is allowed. */
export function forms(report: (props: Properties) => void, allowed: () => boolean): void {
  on(document, 'submit', (event) => {
    const form = event.target;
    const { closest, getAttribute } = Element.prototype;
    if (!(form instanceof HTMLFormElement) || closest.call(form, OFF)) return;
    const attribute = (name: string): string | null => getAttribute.call(form, name);
    const name = attribute('data-kaskad-form') || attribute('id') || attribute('name');
    const action = new URL(attribute('action') || '', location.href).pathname;
    const props: Properties = { form: (name || action).slice(0, LONGEST) };
    if (allowed()) props.fields = fields(form);
    report(props);
  });
}
