"""Errors of direct sums and of Winograd's F(2x2, 3x3) and F(4x4, 3x3) in float32, as shares of sum |w||x|: RATIONALE.md.

usage: python winograd_error.py

Rectified normal inputs, weights of He; each product over the channels is one chain of float32 sums, as in our kernels.
Prints root mean square and largest error for 32 to 512 channels.
"""
import numpy as np
rng=np.random.default_rng(1)
f=np.float32
B2=np.array([[1,0,-1,0],[0,1,1,0],[0,-1,1,0],[0,1,0,-1]],f)
G2=np.array([[1,0,0],[.5,.5,.5],[.5,-.5,.5],[0,0,1]],np.float64)
A2=np.array([[1,1,1,0],[0,1,-1,-1]],f)
B4=np.array([[4,0,-5,0,1,0],[0,-4,-4,1,1,0],[0,4,-4,-1,1,0],[0,-2,-1,2,1,0],[0,2,-1,-2,1,0],[0,4,0,-5,0,1]],f)
G4=np.array([[1/4,0,0],[-1/6,-1/6,-1/6],[-1/6,1/6,-1/6],[1/24,1/12,1/6],[1/24,-1/12,1/6],[0,0,1]],np.float64)
A4=np.array([[1,1,1,1,1,0],[0,1,-1,2,-2,0],[0,1,1,4,4,0],[0,1,-1,8,-8,1]],f)
def mm(M,x): # M @ x over axis -2, float32 stepwise
    out=[]
    for r in M:
        acc=None
        for c,v in zip(r,np.moveaxis(x,-2,0)):
            if c==0: continue
            t=(f(c)*v).astype(f); acc=t if acc is None else (acc+t).astype(f)
        out.append(acc)
    return np.stack(out,-2)
def both(M,x): return np.swapaxes(mm(M,np.swapaxes(mm(M,x),-1,-2)),-1,-2)
for C in (32,64,128,256,512):
    n=400
    g=rng.standard_normal((n,C,3,3)).astype(f)*f(np.sqrt(2/(9*C)))
    d=np.maximum(rng.standard_normal((n,C,6,6)),0).astype(f)
    def ref(size):
        o=np.zeros((n,size,size)); a=o.copy()
        for y in range(size):
            for x in range(size):
                p=d[:,:,y:y+3,x:x+3].astype(np.float64)*g
                o[:,y,x]=p.sum((1,2,3)); a[:,y,x]=abs(p).sum((1,2,3))
        return o,a
    def chain(p): # float32 fma-ish chain over C of products in float64
        s=np.zeros(p[:,0].shape,f)
        for c in range(p.shape[1]): s=(s.astype(np.float64)+p[:,c]).astype(f)
        return s
    res=[]
    for name,B,G,A,m in (("F2",B2,G2,A2,2),("F4",B4,G4,A4,4)):
        t=m+2
        V=both(B,d[:,:,:t,:t]); U=(G@g.astype(np.float64)@G.T).astype(f)
        M=chain(V.astype(np.float64)*U)
        Y=both(A,M)
        o,a=ref(m); e=(Y-o)/a
        res.append((name,np.sqrt((e**2).mean()),abs(e).max()))
    o,a=ref(2); D=np.zeros_like(o)
    s=np.zeros((n,2,2),f)
    for ky in range(3):
        for kx in range(3):
            for c in range(C):
                s=(s.astype(np.float64)+d[:,c,ky:ky+2,kx:kx+2].astype(np.float64)*g[:,c,ky,kx][:,None,None]).astype(f)
    e=(s-o)/a; res.append(("direct",np.sqrt((e**2).mean()),abs(e).max()))
    print(C,["%s rms %.1e max %.1e"%r for r in res])
