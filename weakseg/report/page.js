(function(){
  "use strict";
  var each=function(list,f){Array.prototype.forEach.call(list,f)};
  var number=function(cell){
    if(!cell)return null;
    if(cell.dataset.v!==undefined)return +cell.dataset.v;
    var said=cell.textContent.trim().replace("−","-");
    var found=/^\d+-\d/.test(said)?null:said.match(/^[+-]?[\d.]+/);
    return found?+found[0]:null};
  var text=function(cell){return cell?cell.textContent.trim():""};
  var sort=function(table,at,up){
    each(table.tBodies,function(body){
      Array.prototype.slice.call(body.rows).sort(function(x,y){
        var a=number(x.cells[at]),b=number(y.cells[at]);
        if(a===null&&b===null){return text(x.cells[at]).localeCompare(text(y.cells[at]),undefined,{numeric:true})*(up?1:-1)}
        if(a===null)return 1;
        if(b===null)return -1;
        return up?a-b:b-a}).forEach(function(row){body.appendChild(row)})})};
  each(document.querySelectorAll(".scroll table:not(.pairs)"),function(table){
    if(!table.tHead)return;
    each(table.tHead.rows[0].cells,function(head,at){
      if(!text(head))return;
      var button=document.createElement("button");
      button.type="button";
      button.title="sort by "+text(head);
      while(head.firstChild)button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click",function(){
        var was=head.getAttribute("aria-sort"),words=head.classList.contains("text");
        var up=was?was==="descending":words;
        each(table.tHead.rows[0].cells,function(h){h.removeAttribute("aria-sort")});
        head.setAttribute("aria-sort",up?"ascending":"descending");
        sort(table,at,up)})})});
  each(document.querySelectorAll(".scroll"),function(box){
    var part=box.closest(".part"),heading=part&&part.querySelector("h2");
    box.tabIndex=0;
    box.setAttribute("role","group");
    box.setAttribute("aria-label",(box.querySelector("table")?"Table":"Figure")+(heading?", "+heading.textContent:""))});
  each(document.querySelectorAll("pre"),function(box){box.tabIndex=0});
  addEventListener("beforeprint",function(){
    each(document.querySelectorAll("details:not(.appendix)"),function(d){d.open=true})});
})();
