document.querySelectorAll("table.sort").forEach(function(t){
  var heads=t.tHead.rows[0].cells,last=-1,up=false;
  Array.prototype.forEach.call(heads,function(th,i){th.title="sort";th.onclick=function(){
    up=last===i?!up:false;last=i;
    Array.prototype.forEach.call(t.tBodies,function(b){
      var num=function(r){var v=r.cells[i]&&r.cells[i].dataset.v;return v===undefined?null:+v};
      Array.prototype.slice.call(b.rows).sort(function(x,y){
        var a=num(x),c=num(y);
        if(a===null&&c===null){return x.cells[i]&&y.cells[i]?x.cells[i].textContent.localeCompare(y.cells[i].textContent)*(up?-1:1):0}
        if(a===null){return 1}if(c===null){return -1}
        return up?a-c:c-a}).forEach(function(r){b.appendChild(r)})})}})});
addEventListener("beforeprint",function(){document.querySelectorAll("details").forEach(function(d){d.open=true})});
