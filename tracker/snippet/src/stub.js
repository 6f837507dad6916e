// Holds calls until the snippet is there, with the time they were made; a hundred, in case it never comes.
window.kaskad =
  window.kaskad ||
  function () {
    var q = (kaskad.q = kaskad.q || []);
    q.length < 100 && q.push([Date.now(), arguments]);
  };
