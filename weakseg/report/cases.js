(function(){
  "use strict";
  var each=function(list,f){Array.prototype.forEach.call(list,f)};
  each(document.querySelectorAll(".live"),function(live){
    var get=function(name){return live.querySelector("."+name)};
    var tiles=get("tiles"),cases=Array.prototype.slice.call(tiles.querySelectorAll(".case"));
    var threshold=get("threshold"),last=+live.dataset.steps-1;
    var at=function(){return threshold?+threshold.value:0};
    var cut=function(){return threshold&&get("mask").value===""};
    var curve=function(c){return c.dataset.curve?c.dataset.curve.split(" "):null};
    var dice=function(c){var v=curve(c);return v?+v[Math.round(at()*last)]/1000:null};
    var pixels=function(address,width,height,done){
      if(!address){done(null);return}
      var picture=new Image();
      picture.onload=function(){
        var canvas=document.createElement("canvas");
        canvas.width=width;canvas.height=height;
        var pen=canvas.getContext("2d",{willReadFrequently:true});
        pen.drawImage(picture,0,0,width,height);
        var data=pen.getImageData(0,0,width,height).data,grey=new Uint8Array(width*height);
        for(var i=0;i<grey.length;i++)grey[i]=data[4*i];
        done(grey)};
      picture.src=address};
    var edge=function(grey,limit,w,x,y,h){
      var inside=function(a,b){return a>=0&&b>=0&&a<w&&b<h&&grey[b*w+a]>limit};
      return inside(x,y)&&!(inside(x-1,y)&&inside(x+1,y)&&inside(x,y-1)&&inside(x,y+1))};
    var paint=function(c,heat,mask,truth,canvas){
      var w=canvas.width,h=canvas.height,pen=canvas.getContext("2d",{willReadFrequently:true}),out=pen.createImageData(w,h);
      var limit=cut()?255*at():127,shown=cut()?heat:mask,layer=get("layer").value;
      var opacity=+get("opacity").value,dot=function(i,r,g,b,a){
        out.data[4*i]=r;out.data[4*i+1]=g;out.data[4*i+2]=b;out.data[4*i+3]=255*a};
      for(var y=0;y<h;y++)for(var x=0;x<w;x++){
        var i=y*w+x;
        if(layer==="heat"&&heat&&heat[i])dot(i,255,Math.max(0,2*heat[i]-255),0,opacity*Math.sqrt(heat[i]/255));
        if(layer==="mask"&&shown&&shown[i]>limit)dot(i,255,149,0,opacity);
        if(shown&&edge(shown,limit,w,x,y,h))dot(i,255,149,0,1);
        if(truth&&edge(truth,127,w,x,y,h))dot(i,0,200,255,1)}
      pen.putImageData(out,0,0)};
    var draw=function(c){
      var image=c.querySelector(".view img");
      if(!image)return;
      if(!image.naturalWidth){image.addEventListener("load",function(){draw(c)},{once:true});return}
      var canvas=c.querySelector("canvas"),w=image.naturalWidth,h=image.naturalHeight;
      if(!canvas){
        canvas=document.createElement("canvas");
        canvas.width=w;canvas.height=h;canvas.setAttribute("aria-hidden","true");
        image.parentNode.appendChild(canvas)}
      if(!c.held)c.held={};
      var name=get("mask").value,masks=JSON.parse(c.dataset.masks);
      var load=function(key,address,next){
        if(key in c.held){next();return}
        pixels(address,w,h,function(grey){c.held[key]=grey;next()})};
      load("heat",c.dataset.heat,function(){load("truth",c.dataset.truth,function(){
        load("m-"+name,masks[name],function(){
          paint(c,c.held.heat,c.held["m-"+name],c.held.truth,canvas)})})})};
    var seen=new Set(),watch=new IntersectionObserver(function(entries){
      entries.forEach(function(e){
        if(e.isIntersecting){seen.add(e.target);draw(e.target)}else{seen.delete(e.target)}})},{rootMargin:"200px"});
    cases.forEach(function(c){watch.observe(c)});
    var sums=function(){
      var shown=cases.filter(function(c){return !c.hidden}).length,text=shown+" of "+cases.length+" cases shown.";
      if(threshold){
        get("at").textContent=at().toFixed(2);
        var lesions=0,n=0,alarms=0,healthy=0;
        cases.forEach(function(c){
          var d=dice(c);
          if(d===null)return;
          c.querySelector(".now").textContent=cut()?"· at "+at().toFixed(2)+": "+d.toFixed(2):"";
          if(+c.dataset.pixels>0){lesions+=d;n++}else{healthy++;if(d<1)alarms++}});
        if(n&&cut())text+=" At the threshold "+at().toFixed(2)+": mean Dice "+(lesions/n).toFixed(3)+" over "+n+" images with a lesion, a mark on "+alarms+" of "+healthy+" healthy images."}
      get("sums").textContent=text};
    var again=function(){sums();seen.forEach(draw)};
    var choose=function(){
      var tag=get("filter").value,word=get("search").value.trim().toLowerCase(),by=get("order").value;
      cases.forEach(function(c){
        var tags=c.dataset.tags.split(" "),name=(c.dataset.case+" "+c.dataset.patient).toLowerCase();
        c.hidden=(tag!==""&&tags.indexOf(tag)<0)||name.indexOf(word)<0});
      var key={dice:function(c){return +c.dataset.dice},pixels:function(c){return -c.dataset.pixels}}[by];
      cases.sort(function(x,y){
        if(key&&key(x)!==key(y))return key(x)-key(y);
        var a=by==="patient"?x.dataset.patient:"",b=by==="patient"?y.dataset.patient:"";
        return a.localeCompare(b,undefined,{numeric:true})||x.dataset.case.localeCompare(y.dataset.case,undefined,{numeric:true})});
      cases.forEach(function(c){tiles.appendChild(c)});
      again()};
    ["threshold","opacity","mask","layer"].forEach(function(name){
      var tool=get(name);
      if(tool)tool.addEventListener("input",again)});
    ["filter","order","search"].forEach(function(name){get(name).addEventListener("input",choose)});
    var zoom=function(c){
      var on=c&&!c.classList.contains("zoomed");
      cases.forEach(function(o){o.classList.remove("zoomed")});
      if(on){c.classList.add("zoomed");c.scrollIntoView({block:"nearest"})}};
    tiles.addEventListener("click",function(e){var c=e.target.closest(".case");if(c)zoom(c)});
    tiles.addEventListener("keydown",function(e){
      var c=e.target.closest(".case"),shown=cases.filter(function(o){return !o.hidden}),i=shown.indexOf(c);
      if(e.key==="Enter"){zoom(c);e.preventDefault()}
      if(e.key==="Escape")zoom(null);
      var next=shown[i+(e.key==="ArrowRight"?1:e.key==="ArrowLeft"?-1:NaN)];
      if(next){var was=c.classList.contains("zoomed");if(was)zoom(next);next.focus();e.preventDefault()}});
    choose()});
})();
